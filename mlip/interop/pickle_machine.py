"""A pickle's instructions carried out without Python's unpickler: no name is looked up, nothing of the file is called.

A pickle is a program for a small stack machine. Here its instructions, taken apart by `pickletools`, only make plain
values, containers, and what `mlip.interop.allowed` makes of the names that it allows. Instructions that no checkpoint
needs (extension codes, old text forms, out-of-band buffers) are refused.
"""

import pickletools
from collections.abc import Callable, Iterator
from typing import Any

from mlip.errors import CheckpointError
from mlip.interop.allowed import AllowedNames
from mlip.interop.records import Global, Record

_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_VALUES = {
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "LONG4",
    "BINFLOAT",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
}
_CONTAINERS: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = {"PROTO", "FRAME"}
# Keys whose hash is at hand. That of a tuple is found by descending, which a deep one turns into a crash.
_KEYS = (str, int, float, bytes, type(None), Global, Record)


class _Mark:
    """Where the items of a container begin on the stack."""


class PickleMachine:
    """Runs one pickle.

    Args:
        allowed: What the names in it stand for.
        persistent: Makes the object of a persistent id, a tensor's storage.
    """

    def __init__(self, allowed: AllowedNames, persistent: Callable[[Any], Any]) -> None:
        self._allowed = allowed
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._handlers: dict[str, Callable[[Any], None]] = {
            "MARK": lambda _: self._stack.append(_Mark()),
            "POP": lambda _: self._drop(),
            "POP_MARK": lambda _: self._drop_to_mark(),
            "DUP": lambda _: self._stack.append(self._top()),
            "BINPUT": self._memorise,
            "LONG_BINPUT": self._memorise,
            "MEMOIZE": lambda _: self._memorise(len(self._memo)),
            "BINGET": self._recall,
            "LONG_BINGET": self._recall,
            "TUPLE": lambda _: self._stack.append(tuple(self._items())),
            "LIST": lambda _: self._stack.append(self._items()),
            "DICT": lambda _: self._set_items({}, self._items()),
            "FROZENSET": lambda _: self._stack.append(frozenset(_keys(self._items()))),
            "APPEND": lambda _: self._extend([self._pop()]),
            "APPENDS": lambda _: self._extend(self._items()),
            "SETITEM": lambda _: self._set_one(),
            "SETITEMS": lambda _: self._set_many(),
            "ADDITEMS": lambda _: self._add(),
            "GLOBAL": self._name,
            "STACK_GLOBAL": lambda _: self._name_of_stack(),
            "REDUCE": lambda _: self._call(self._pop()),
            "NEWOBJ": lambda _: self._call(self._pop()),
            "NEWOBJ_EX": lambda _: self._call_with_names(),
            "BUILD": lambda _: self._build(),
            "BINPERSID": lambda _: self._stack.append(self._persistent(self._pop())),
        }

    def run(self, content: bytes) -> Any:
        """The object that a pickle describes.

        Raises:
            CheckpointError: the pickle is damaged or holds what is not allowed.
        """
        for instruction, argument in _instructions(content):
            if instruction == "STOP":
                return self._pop()
            if instruction in _CONSTANTS:
                self._stack.append(_CONSTANTS[instruction])
            elif instruction in _VALUES:
                self._stack.append(argument)
            elif instruction in _CONTAINERS:
                self._stack.append(_CONTAINERS[instruction]())
            elif instruction in _TUPLES:
                self._stack.append(tuple(reversed([self._pop() for _ in range(_TUPLES[instruction])])))
            elif instruction in self._handlers:
                self._handlers[instruction](argument)
            elif instruction not in _IGNORED:
                raise CheckpointError(
                    f"the checkpoint holds the pickle instruction {instruction}, which models do not need; "
                    "do not trust the file."
                )
        raise damaged("it has no end")

    def _pop(self) -> Any:
        value = self._top()
        self._stack.pop()
        return value

    def _top(self) -> Any:
        if not self._stack or isinstance(self._stack[-1], _Mark):
            raise damaged("a value is missing")
        return self._stack[-1]

    def _drop(self) -> None:
        if not self._stack:
            raise damaged("a value is missing")
        self._stack.pop()

    def _drop_to_mark(self) -> None:
        self._items()

    def _items(self) -> list[Any]:
        """What lies above the last mark, taken off together with it."""
        for place in range(len(self._stack) - 1, -1, -1):
            if isinstance(self._stack[place], _Mark):
                items = self._stack[place + 1 :]
                del self._stack[place:]
                return items
        raise damaged("a mark is missing")

    def _memorise(self, key: int) -> None:
        self._memo[key] = self._top()

    def _recall(self, key: int) -> None:
        if key not in self._memo:
            raise damaged("it refers to nothing")
        self._stack.append(self._memo[key])

    def _extend(self, items: list[Any]) -> None:
        target = self._top()
        if isinstance(target, Record):
            target.items.extend(items)
        elif isinstance(target, list):
            target.extend(items)
        else:
            raise damaged("items are added to what is no list")

    def _set_one(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items(self._pop(), [key, value])

    def _set_many(self) -> None:
        items = self._items()
        self._set_items(self._pop(), items)

    def _set_items(self, target: Any, items: list[Any]) -> None:
        if len(items) % 2:
            raise damaged("a key has no value")
        pairs = list(zip(_keys(items[::2]), items[1::2], strict=True))
        if isinstance(target, Record):
            target.items.extend(pairs)
        elif isinstance(target, dict):
            target.update(pairs)
        else:
            raise damaged("items are set in what is no dictionary")
        self._stack.append(target)

    def _add(self) -> None:
        items = self._items()
        if not isinstance(self._top(), set):
            raise damaged("items are added to what is no set")
        self._top().update(_keys(items))

    def _name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(self._allowed.find(module, name))

    def _name_of_stack(self) -> None:
        name, module = self._pop(), self._pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise damaged("a name is no text")
        self._stack.append(self._allowed.find(module, name))

    def _call(self, args: Any, names: dict[str, Any] | None = None) -> None:
        function = self._pop()
        if not isinstance(args, tuple):
            raise damaged("arguments are no tuple")
        self._stack.append(self._allowed.make(function, args, names or {}))

    def _call_with_names(self) -> None:
        names, args = self._pop(), self._pop()
        if not isinstance(names, dict):
            raise damaged("named arguments are no dictionary")
        self._call(args, names)

    def _build(self) -> None:
        state = self._pop()
        self._allowed.build(self._top(), state)


def damaged(reason: str) -> CheckpointError:
    """The error of a pickle that is not well formed."""
    return CheckpointError(f"the pickle in the checkpoint is damaged ({reason}); copy the file again.")


def _instructions(content: bytes) -> Iterator[tuple[str, Any]]:
    try:
        for instruction, argument, _ in pickletools.genops(content):
            yield instruction.name, argument
    # Python warns of wrong escapes in texts of the old form, and warnings may be set to be errors.
    except (ValueError, OverflowError, IndexError, Warning) as error:
        raise damaged(str(error)[:100]) from None


def _keys(values: list[Any]) -> list[Any]:
    for value in values:
        if not isinstance(value, _KEYS):
            raise CheckpointError(
                f"the checkpoint has a dictionary or set with a {type(value).__name__} as key, which is not allowed; "
                "do not trust the file."
            )
    return values
