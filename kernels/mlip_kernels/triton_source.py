"""Triton kernels from generated source text: what the generators of all operations share."""

import hashlib
import linecache
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import ModuleType

_HEADER = "import triton\nimport triton.language as tl\n"
_INDENT = "    "
_NAME = re.compile(r"[a-z]\w*")


@cache
def load_source(title: str, text: str) -> ModuleType:
    """A module made of `text`, after the imports of `triton` and of `triton.language` as `tl`.

    Triton reads the source of a kernel through `inspect`, which looks into `linecache` before the disk: the text is put
    there, so that no file needs to be written. Equal texts give the same module.

    Args:
        title: What the kernels compute, an identifier; it appears in tracebacks.
        text: Source of one or more functions under `triton.jit`.
    """
    source = f"{_HEADER}\n\n{text}"
    name = f"mlip_kernels_generated_{title}_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    path = f"<{name}>"
    # An entry without a time of modification is not checked against the disk.
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    exec(compile(source, path, "exec"), module.__dict__)
    return module


class KernelText:
    """Source of one kernel, written line by line; a program has `block` channels of `channels`.

    The kernel's text begins with the names `lane` and `channel`, and `inside` where the last block is not full.

    Args:
        name: Name of the kernel.
        arguments: Its arguments.
        channels: Channels of the operands.
        block: Channels of a program.
        counts: Arguments whose values vary from call to call, for which Triton is not to compile variants.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], channels: int, block: int, counts: Sequence[str] = ()
    ) -> None:
        self.block = block
        self._tail = channels % block != 0
        decorator = f"@triton.jit(do_not_specialize={list(counts)!r})" if counts else "@triton.jit"
        self._lines: list[str] = [decorator, f"def {name}({', '.join(arguments)}):"]
        self._depth = 1
        self._pending: dict[str, str] = {}
        self.add(f"lane = tl.arange(0, {block})")
        self.add(f"channel = tl.program_id(1) * {block} + lane")
        if self._tail:
            self.add(f"inside = channel < {channels}")

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"

    def add(self, line: str) -> None:
        """Add a line at the present depth, after the definitions that it needs."""
        for name in _NAME.findall(line):
            if name in self._pending:
                self.add(f"{name} = {self._pending.pop(name)}")
        self._lines.append(_INDENT * self._depth + line)

    def define(self, name: str, expression: str) -> None:
        """Let `name` stand for an expression that is evaluated where the present block first needs it, if it does.

        The compiler keeps much to the order of the text, and values that are long in waiting take registers.
        """
        self._pending[name] = expression

    @contextmanager
    def indented(self, line: str) -> Iterator[None]:
        """Add a line that opens a block, and indent what is added within."""
        self.add(line)
        outer, self._pending = self._pending, {}
        self._depth += 1
        yield
        self._depth -= 1
        self._pending = outer

    def load(self, pointer: str) -> str:
        """Expression for the values of the program's channels at a pointer to each, zero beyond the last channel."""
        return f"tl.load({pointer}, mask=inside, other=0.0)" if self._tail else f"tl.load({pointer})"

    def store(self, pointer: str, value: str) -> None:
        """Store the values of the program's channels."""
        self.add(f"tl.store({pointer}, {value}, mask=inside)" if self._tail else f"tl.store({pointer}, {value})")

    def zeros(self, name: str, like: str) -> None:
        """Name a vector of zeros of the type that the pointer `like` points to."""
        self.add(f"{name} = tl.zeros([{self.block}], {like}.dtype.element_ty)")

    def sum_channels(self, values: Sequence[str], result: str) -> None:
        """Sum each of at most `block` vectors over the lanes: lane number n of `result` holds the sum of values[n].

        A tree of butterflies in which both partners keep half of the vectors: for 16 vectors on 32 lanes 16 exchanges,
        where as many separate sums take 80.
        """
        if not 1 <= len(values) <= self.block:
            raise ValueError(f"{len(values)} vectors were to be summed: give 1 to {self.block}.")
        left = list(values)
        bit, count = 1, 0
        while len(left) > 1:
            self.add(f"upper = (lane & {bit}) != 0")
            pairs = [left[number : number + 2] for number in range(0, len(left), 2)]
            left = []
            for pair in pairs:
                name = f"{result}_{count}"
                count += 1
                if len(pair) == 1:
                    self.add(f"{name} = {pair[0]} + tl.gather({pair[0]}, lane ^ {bit}, 0)")
                else:
                    first, second = pair
                    given = f"tl.gather(tl.where(upper, {first}, {second}), lane ^ {bit}, 0)"
                    self.add(f"{name} = tl.where(upper, {second}, {first}) + {given}")
                left.append(name)
            bit *= 2
        self.add(f"{result} = {left[0]}")
        while bit < self.block:
            self.add(f"{result} += tl.gather({result}, lane ^ {bit}, 0)")
            bit *= 2


def combination(terms: Iterable[tuple[str, float]]) -> str:
    """Expression for the sum of names times coefficients; coefficients keep all digits of float64."""
    return " + ".join(name if value == 1.0 else f"{float(value)!r} * {name}" for name, value in terms)


class Sums:
    """Names that are assigned by their first term and added to by all later ones."""

    def __init__(self, text: KernelText) -> None:
        self._text = text
        self.names: dict[str, None] = {}

    def add(self, name: str, term: str) -> None:
        """Add a term to the sum under this name."""
        self._text.add(f"{name} {'+=' if name in self.names else '='} {term}")
        self.names[name] = None
