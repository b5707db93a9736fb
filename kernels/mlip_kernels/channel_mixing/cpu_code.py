"""Emits the matrix products of a mixing of channels: the map, its transpose, and the gradient of its weights.

Sums stay in registers: 6 rows times 4 vectors where processors have 32 of them. The transpose multiplies with rows of
the weights, along which its vectors run, and adds up the lanes of as many sums as a vector has lanes at once.
"""

from collections.abc import Callable, Iterator
from typing import Any

from mlip_kernels.simd.code import Code, Index, Indices, Reals, Variable, Vector
from mlip_kernels.simd.reduction import LaneSums
from mlip_kernels.simd.target import host_target

_ROWS = 6
_KINDS = ["index", "reals", "index", "reals", "reals", "index", "indices", "index", "index", "reals"]
_OUTER_KINDS = ["index", "reals", "index", "reals", "index", "reals", "indices", *["index"] * 4, "reals"]


class MixingCode:
    """Functions of a program for blocks with certain numbers of channels.

    Args:
        channels_in: Of the input, whole vectors.
        channels_out: Of the output, whole vectors.
        grouped: Whether the rows are those of a list, in its order, or follow one another.
    """

    def __init__(self, channels_in: int, channels_out: int, grouped: bool) -> None:
        self.channels_in = channels_in
        self.channels_out = channels_out
        self.grouped = grouped

    def map(self, code: Code, *arguments: int | Index | Reals | Indices) -> None:
        """Write `factor x W` for some rows.

        Its arguments: components, x and its stride between rows, W, the result and its stride, the list of rows, first
        and last of the rows, factor.
        """
        self._call(code, "map", _KINDS, self._map, arguments)

    def transpose(self, code: Code, *arguments: int | Index | Reals | Indices) -> None:
        """Write `factor g W^T`; arguments as those of `map`."""
        self._call(code, "transpose", _KINDS, self._transpose, arguments)

    def outer(self, code: Code, *arguments: int | Index | Reals | Indices) -> None:
        """Write `factor x^T g`, rows `start` to `stop` of it.

        Its arguments: components, x and its stride, g and its stride, the result, the list of rows, first and last of
        the rows, start, stop, factor.
        """
        self._call(code, "outer", _OUTER_KINDS, self._outer, arguments)

    def _call(
        self, code: Code, kind: str, kinds: list[str], emit: Callable[..., None], arguments: tuple[Any, ...]
    ) -> None:
        name = f"{kind}_{self.channels_in}_{self.channels_out}"
        if name not in code.functions:
            with code.function(name, kinds) as (body, own):
                emit(body, *own)
        code.call(name, *arguments)

    def _map(
        self, code: Code, components: Index, features: Reals, stride: Index, weights: Reals, output: Reals,
        output_stride: Index, order: Indices, first: Index, last: Index, factor: Reals,
    ) -> None:  # fmt: skip
        scale = factor.broadcast(0)
        for start, width in self._panels(code):
            for numbers in _row_numbers(code, first, last):
                rows = [self._row(order, number) for number in numbers]
                with code.loop(0, components) as component:
                    sources = [features.at(row * stride + component * self.channels_in) for row in rows]
                    sums = _sums(code, len(rows), width)
                    with code.loop(0, self.channels_in) as k:
                        line = weights.at(k * self.channels_out + start)
                        _add_products(code, [source.broadcast(k) for source in sources], line, sums)
                    for row, totals in zip(rows, sums, strict=True):
                        place = output.at(row * output_stride + component * self.channels_out + start)
                        for number, total in enumerate(totals):
                            place.store(number * code.lanes, total.get() * scale)

    def _transpose(
        self, code: Code, components: Index, received: Reals, stride: Index, weights: Reals, output: Reals,
        output_stride: Index, order: Indices, first: Index, last: Index, factor: Reals,
    ) -> None:  # fmt: skip
        scale = factor.broadcast(0)
        # Rows of weights outermost, so that they stay in the first-level cache.
        with code.loop(0, self.channels_in, code.lanes) as start, code.loop(first, last) as number:
            row = self._row(order, number)
            with code.loop(0, components) as component:
                source = received.at(row * stride + component * self.channels_out)
                sums = [code.variable(code.broadcast(0.0)) for _ in range(code.lanes)]
                with code.loop(0, self.channels_out, code.lanes) as k:
                    gradient = source.load(k)
                    line = weights.at(start * self.channels_out + k)
                    for lane, total in enumerate(sums):
                        total.add_product(gradient, line.load(lane * self.channels_out))
                reduction = LaneSums()
                for lane, total in enumerate(sums):
                    reduction.add(lane, total.get())
                place = output.at(row * output_stride + component * self.channels_in)
                place.store(start, reduction.result() * scale)

    def _outer(
        self, code: Code, components: Index, features: Reals, stride: Index, received: Reals, received_stride: Index,
        of_weights: Reals, order: Indices, first: Index, last: Index, start: Index, stop: Index, factor: Reals,
    ) -> None:  # fmt: skip
        scale = factor.broadcast(0)
        for column, width in self._panels(code):
            for channels in _row_numbers(code, start, stop):
                sums = _sums(code, len(channels), width)
                with code.loop(first, last) as number, code.loop(0, components) as component:
                    row = self._row(order, number)
                    source = features.at(row * stride + component * self.channels_in)
                    line = received.at(row * received_stride + component * self.channels_out + column)
                    _add_products(code, [source.broadcast(channel) for channel in channels], line, sums)
                for channel, totals in zip(channels, sums, strict=True):
                    place = of_weights.at(channel * self.channels_out + column)
                    for vector, total in enumerate(totals):
                        place.store(vector * code.lanes, total.get() * scale)

    def _row(self, order: Indices, number: Index) -> Index:
        return order.get(number) if self.grouped else number

    def _panels(self, code: Code) -> Iterator[tuple[int, int]]:
        """First columns and vectors of panels whose sums stay in registers."""
        vectors = 4 if host_target().vector_registers >= 32 else 2
        for first in range(0, self.channels_out, vectors * code.lanes):
            yield first, min(vectors, (self.channels_out - first) // code.lanes)


def _row_numbers(code: Code, first: Index, last: Index) -> Iterator[list[Index]]:
    """Loops over rows, `_ROWS` at a time and then one by one."""
    whole = first + ((last - first) // _ROWS) * _ROWS
    with code.loop(first, whole, _ROWS) as row:
        yield [row + number for number in range(_ROWS)]
    with code.loop(whole, last) as row:
        yield [row]


def _sums(code: Code, rows: int, vectors: int) -> list[list[Variable]]:
    return [[code.variable(code.broadcast(0.0)) for _ in range(vectors)] for _ in range(rows)]


def _add_products(code: Code, factors: list[Vector], line: Reals, sums: list[list[Variable]]) -> None:
    """Add to each row of sums its factor times the vectors of a line."""
    vectors = [line.load(number * code.lanes) for number in range(len(sums[0]))]
    for factor, totals in zip(factors, sums, strict=True):
        for vector, total in zip(vectors, totals, strict=True):
            total.add_product(factor, vector)
