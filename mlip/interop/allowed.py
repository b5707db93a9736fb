"""The names that a checkpoint may hold, and what is made of each: tensors, plain values, or inert records."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlip.errors import CheckpointError
from mlip.interop.archive import STORAGE_TYPES, Storage
from mlip.interop.records import Global, Record

# Classes and functions of these packages become records. None of them is imported.
_RECORD_PACKAGES = ("torch.nn.", "torch.fx.", "e3nn.", "mace.", "sevenn.", "opt_einsum_fx.")
_RECORD_NAMES = {"functools.partial", "opt_einsum_fx"}
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    )
}
_NUMPY_DTYPES = {"f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1"}
_MOST_AXES = 16


class Maker:
    """A name that is allowed in the place of a function; calls it with the arguments in the file.

    Args:
        name: Of the function or class in the file.
        function: Ours.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self._function = function

    def __call__(self, *args: Any) -> Any:
        """What our function makes of the arguments.

        Raises:
            CheckpointError: they are not what it takes.
        """
        try:
            return self._function(*args)
        except CheckpointError:
            raise
        except (TypeError, ValueError, OverflowError, RuntimeError, LookupError):
            raise CheckpointError(
                f"the checkpoint calls {self.name} with wrong arguments; it is damaged: copy it again."
            ) from None


class AllowedNames:
    """Looks up names of a checkpoint among those allowed, in place of importing them."""

    def find(self, module: str, name: str) -> Any:
        """What stands for `module.name`.

        Raises:
            CheckpointError: it is not allowed.
        """
        module = "builtins" if module == "__builtin__" else module.replace("numpy._core", "numpy.core")
        found = Global(module, name)
        if module == "torch" and name in STORAGE_TYPES:
            return STORAGE_TYPES[name]
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if str(found) in _MAKERS:
            return Maker(str(found), _MAKERS[str(found)])
        if str(found) in _RECORD_NAMES or f"{module}.".startswith(_RECORD_PACKAGES):
            return found
        raise CheckpointError(
            f"the checkpoint refers to '{str(found)[:100]}', which no model needs and which is not allowed; "
            "do not trust the file."
        )

    def make(self, function: Any, args: tuple[Any, ...], names: Mapping[str, Any]) -> Any:
        """What a call of an allowed name gives: a value of ours, or a record of the call.

        Raises:
            CheckpointError: it is none, or the arguments are wrong.
        """
        if isinstance(function, Global):
            return Record(function, args, dict(names))
        if isinstance(function, Maker) and not names:
            return function(*args)
        raise CheckpointError(
            f"the checkpoint calls a {type(function).__name__}, which is not allowed; do not trust the file."
        )

    def build(self, target: Any, state: Any) -> None:
        """Give an object the state that is stored beside it.

        Raises:
            CheckpointError: nothing of the kind has a state.
        """
        if isinstance(target, Record):
            target.state.update(_attributes(state))
        elif isinstance(target, np.ndarray):
            _fill_array(target, state)
        elif isinstance(target, np.dtype):
            _check_byte_order(state)
        elif not isinstance(target, OrderedDict):  # Torch notes versions of modules there, which nobody needs.
            raise CheckpointError(
                f"the checkpoint gives a state to a {type(target).__name__}, which is not allowed; "
                "do not trust the file."
            )


def _attributes(state: Any) -> dict[str, Any]:
    """Attributes of an object from its state: a dictionary, or a pair of them where the class has slots."""
    parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
    attributes: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, dict):
            attributes |= {str(name): value for name, value in part.items()}
        elif part is not None:
            return {"state": state}
    return attributes


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A view of a storage, in place of `torch._utils._rebuild_tensor_v2`; gradients and hooks are left out."""
    numbers = (offset, *size, *stride)
    if not isinstance(storage, Storage) or len(size) != len(stride) or len(size) > _MOST_AXES:
        raise ValueError
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if count else 0
    # As many elements as the storage at most, so that none stands for a thousand.
    if last >= max(storage.values.numel(), 1) or count > storage.values.numel():
        raise ValueError
    return storage.values.as_strided(tuple(size), tuple(stride), offset if count else 0)


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise TypeError
    return data


def _reconstructed(kind: Any, _base: Any, _state: Any) -> Record:
    """In place of `copyreg._reconstructor`."""
    if not isinstance(kind, Global):
        raise TypeError
    return Record(kind)


def _device(*args: Any) -> torch.device:
    if not args or not isinstance(args[0], str) or any(type(index) is not int for index in args[1:]):
        raise TypeError
    return torch.device(*args)


def _encoded(text: Any, encoding: Any) -> bytes:
    """Bytes, which pickles of protocol 2 write as text."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise TypeError
    return text.encode("latin1")


def _size(values: Any) -> torch.Size:
    return torch.Size([int(value) for value in values])


def _plain(kind: Callable[..., Any], allowed: tuple[type, ...]) -> Callable[..., Any]:
    """Calls a builtin type with at most one argument, of the types given."""

    def make(*args: Any) -> Any:
        if len(args) > 1 or not all(isinstance(each, allowed) for each in args):
            raise TypeError
        return kind(*args)

    return make


def _set(kind: type[set[Any]] | type[frozenset[Any]]) -> Callable[..., Any]:
    def make(items: Any = ()) -> Any:
        if not isinstance(items, list | tuple) or not all(isinstance(each, _HASHABLE) for each in items):
            raise TypeError
        return kind(items)

    return make


def _ordered(items: Any = ()) -> OrderedDict[Any, Any]:
    pairs = [(key, value) for key, value in items]
    if not all(isinstance(key, _HASHABLE) for key, _ in pairs):
        raise TypeError
    return OrderedDict(pairs)


def _slice(start: Any, stop: Any, step: Any) -> slice:
    if not all(each is None or type(each) is int for each in (start, stop, step)):
        raise TypeError
    return slice(start, stop, step)


def _defaultdict(*_: Any) -> dict[Any, Any]:
    """Only what is in it counts, not what would be made for a missing key."""
    return {}


def _numpy_dtype(code: Any, *_: Any) -> np.dtype[Any]:
    if code not in _NUMPY_DTYPES:
        raise CheckpointError(f"the checkpoint holds a NumPy array of type '{code}', which is not supported.")
    return np.dtype(code)


def _empty_array(*_: Any) -> np.ndarray:
    """An array that its state fills afterwards."""
    return np.empty(0)


def _numpy_scalar(dtype: Any, content: Any) -> Any:
    if not isinstance(dtype, np.dtype) or not isinstance(content, bytes) or len(content) != dtype.itemsize:
        raise TypeError
    return np.frombuffer(content, dtype)[0].item()


def _fill_array(target: np.ndarray, state: Any) -> None:
    """Make an empty array the one that its state describes: (version, shape, dtype, column order, bytes)."""
    error = CheckpointError("a NumPy array in the checkpoint is damaged; copy the file again.")
    if not isinstance(state, tuple) or len(state) != 5:
        raise error
    _, shape, dtype, column_order, content = state
    proper = isinstance(shape, tuple) and len(shape) <= _MOST_AXES and isinstance(dtype, np.dtype)
    if not proper or any(type(length) is not int or length < 0 for length in shape):
        raise error
    if not isinstance(content, bytes) or math.prod(shape) * dtype.itemsize != len(content):
        raise error
    array: Any = target  # NumPy's stubs ask for a bool of its own, which it refuses.
    array.__setstate__((1, shape, dtype, bool(column_order), content))


def _check_byte_order(state: Any) -> None:
    if not (isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", "|", "=")):
        raise CheckpointError("a NumPy array in the checkpoint has another byte order; save it again on this machine.")


_HASHABLE = (str, int, float, bytes, type(None), Global, Record)
_MAKERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": _size,
    "torch.device": _device,
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": _defaultdict,
    "copyreg._reconstructor": _reconstructed,
    "copy_reg._reconstructor": _reconstructed,
    "_codecs.encode": _encoded,
    "numpy.ndarray": _empty_array,
    "numpy.dtype": _numpy_dtype,
    "numpy.core.multiarray._reconstruct": _empty_array,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "builtins.set": _set(set),
    "builtins.frozenset": _set(frozenset),
    "builtins.list": _plain(list, (list, tuple)),
    "builtins.tuple": _plain(tuple, (list, tuple)),
    "builtins.dict": _plain(dict, ()),
    "builtins.int": _plain(int, (int, float)),
    "builtins.float": _plain(float, (int, float)),
    "builtins.bool": _plain(bool, (bool,)),
    "builtins.str": _plain(str, (str,)),
    "builtins.bytes": _plain(bytes, (bytes,)),
    "builtins.slice": _slice,
}
