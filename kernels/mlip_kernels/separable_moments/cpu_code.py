"""Emits what the maps between particles and coefficient tensors are made of.

Of the three axes of a tensor the first is summed by a matrix product, whose tiles stay in registers, and the other two
are taken together as the columns of matrices, some values of the second at a time (a panel). What has a row for each
particle and a column for each of these is kept for a few particles and a panel only, in the first-level cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mlip_kernels.simd.code import Code, Index, Reals, Variable
from mlip_kernels.simd.reduction import LaneSums, lane_sum
from mlip_kernels.simd.target import host_target

# Rows of a tile of a matrix product, and vectors of factors that stay in registers.
_ROWS, _VECTORS = 6, 4
# What is made of the contraction with the first axis: values; values and the gradients of the other two factors, of
# which the last is the one along vectors; or the gradient of the last factor alone.
Reduction = Literal["values", "gradients", "last"]


@dataclass(frozen=True)
class Panel:
    """Values first <= m < last of the second axis; the columns of a matrix are these times those of the third.

    Attributes:
        first: First value.
        last: The value after the last.
        inner: Values of the third axis.
    """

    first: Index
    last: Index
    inner: Index

    @property
    def columns(self) -> Index:
        """Columns."""
        return (self.last - self.first) * self.inner

    def vectors(self, lanes: int) -> Index:
        """Vectors that hold a row."""
        return (self.columns + lanes - 1) // lanes

    def stride(self, lanes: int) -> Index:
        """Numbers of a row, with room for what a vector from any column on holds beyond the last."""
        return (self.vectors(lanes) + 1) * lanes


@dataclass(frozen=True)
class Particle:
    """What belongs to one particle: factors of the second and third axis, the latter padded, charge and results."""

    y: Reals
    z: Reals
    charge: Reals
    of_y: Reals
    of_z: Reals
    of_charge: Reals


def define_product(code: Code) -> None:
    """Define `product`: result = left @ right, or added to it.

    Its arguments: left, the distance of its rows and that of its columns; right, [inner, columns], and the distance of
    its rows; the result and the distance of its rows; rows, inner, vectors of columns, and 1 to add or 0 to overwrite.
    """
    kinds = ["reals", "index", "index", "reals", "index", "reals", *["index"] * 5]
    widest = 4 if host_target().vector_registers >= 32 else 2
    with code.function("product", kinds) as (body, arguments):
        left, left_row, left_column, right, right_row, result, result_row, rows, inner, vectors, add = arguments

        def tile(row: Index, height: int, first: Index, width: int) -> None:
            sources = [left.at((row + number) * left_row) for number in range(height)]
            places = [result.at((row + number) * result_row + first * body.lanes) for number in range(height)]
            sums = [[body.variable(body.broadcast(0.0)) for _ in range(width)] for _ in range(height)]
            with body.loop(0, inner) as k:
                line = right.at(k * right_row + first * body.lanes)
                columns = [line.load(number * body.lanes) for number in range(width)]
                for source, totals in zip(sources, sums, strict=True):
                    factor = source.broadcast(k * left_column)
                    for column, total in zip(columns, totals, strict=True):
                        total.add_product(factor, column)
            with body.when(add.compare("==", 1)):
                for place, totals in zip(places, sums, strict=True):
                    for number, total in enumerate(totals):
                        total.add(place.load(number * body.lanes))
            for place, totals in zip(places, sums, strict=True):
                for number, total in enumerate(totals):
                    place.store(number * body.lanes, total.get())

        def strip(first: Index, width: int) -> None:
            _in_parts(body, rows, _ROWS, lambda row, height: tile(row, height, first, width))

        _in_parts(body, vectors, widest, strip)


def _in_parts(code: Code, count: Index, largest: int, emit: Callable[[Index, int], None]) -> None:
    """Emit for all of `count`, the last first: what is beyond a multiple of `largest`, and then so many at a time."""
    left = count % largest
    whole = count - left
    for size in range(1, largest):
        with code.when(left.compare("==", size)):
            emit(whole, size)
    with code.loop(0, whole, largest) as done:
        emit(whole - done - largest, largest)


def _by_vectors(code: Code, panel: Panel, emit: Callable[[list[Index]], None]) -> None:
    """Emit for the places of a few vectors of the third axis at a time, those at the end first."""
    count = (panel.inner + code.lanes - 1) // code.lanes
    _in_parts(code, count, _VECTORS, lambda first, size: emit([(first + n) * code.lanes for n in range(size)]))


def spread(code: Code, panel: Panel, y: Reals, z: Reals, charge: Reals, row: Reals) -> None:
    """Write charge * y[m] * z[v] for a panel into a row; z is padded by zeros."""
    factor = charge.broadcast(0)

    def write(places: list[Index]) -> None:
        vectors = [factor * z.load(place) for place in places]
        with code.loop(panel.first, panel.last) as m:
            scale = y.broadcast(m)
            line = row.at((m - panel.first) * panel.inner)
            # What lies beyond the last column is overwritten by the next one's first, which is written later.
            for place, vector in zip(places, vectors, strict=True):
                line.store(place, scale * vector)

    _by_vectors(code, panel, write)


def reduce(code: Code, reduction: Reduction, panel: Panel, row: Reals, particle: Particle) -> None:
    """Add what a row `W[m, v]` of the contraction with the first axis gives to the results of its particle."""
    if reduction == "values":
        _add_values(code, panel, row, particle)
    elif reduction == "last":
        _add_last(code, panel, row, particle)
    else:
        _add_gradients(code, panel, row, particle)


def copy(code: Code, source: Reals, target: Reals, count: Index) -> None:
    """Copy so many numbers and no more."""
    whole = count - count % code.lanes
    with code.loop(0, whole, code.lanes) as place:
        target.store(place, source.load(place))
    with code.loop(whole, count) as place:
        target.set(place, source.get(place))


def _add_values(code: Code, panel: Panel, row: Reals, particle: Particle) -> None:
    total = code.variable(code.broadcast(0.0))

    def add(places: list[Index]) -> None:
        sums = _weighted_lines(code, panel, row, particle, places)
        for place, each in zip(places, sums, strict=True):
            total.add_product(each.get(), particle.z.load(place))

    _by_vectors(code, panel, add)
    particle.of_charge.set(0, particle.of_charge.get(0) + lane_sum(total.get()))


def _add_last(code: Code, panel: Panel, row: Reals, particle: Particle) -> None:
    charge = particle.charge.broadcast(0)

    def add(places: list[Index]) -> None:
        sums = _weighted_lines(code, panel, row, particle, places)
        for place, each in zip(places, sums, strict=True):
            particle.of_z.store(place, code.fused(each.get(), charge, particle.of_z.load(place)))

    _by_vectors(code, panel, add)


def _weighted_lines(code: Code, panel: Panel, row: Reals, particle: Particle, places: list[Index]) -> list[Variable]:
    """Sums over the second axis, weighted with its factors, for vectors of the third."""
    sums = [code.variable(code.broadcast(0.0)) for _ in places]
    with code.loop(panel.first, panel.last) as m:
        weight = particle.y.broadcast(m)
        line = row.at((m - panel.first) * panel.inner)
        for place, total in zip(places, sums, strict=True):
            total.add_product(weight, line.load(place))
    return sums


def _add_gradients(code: Code, panel: Panel, row: Reals, particle: Particle) -> None:
    charge = particle.charge.broadcast(0)
    values = code.variable(code.broadcast(0.0))
    single = code.variable(code.number(0.0))
    whole = panel.last - (panel.last - panel.first) % code.lanes
    # As many values of the second axis as there are lanes, whose sums over the third are one vector then.
    with code.loop(panel.first, whole, code.lanes) as m:
        sums = _contract(code, panel, row, particle, m, code.lanes)
        reduction = LaneSums()
        for number, total in enumerate(sums):
            reduction.add(number, total.get())
        along = reduction.result()
        particle.of_y.store(m, code.fused(charge, along, particle.of_y.load(m)))
        values.add_product(along, particle.y.load(m))
    with code.loop(whole, panel.last) as m:
        value = lane_sum(_contract(code, panel, row, particle, m, 1)[0].get())
        particle.of_y.set(m, particle.of_y.get(m) + particle.charge.get(0) * value)
        single.add(value * particle.y.get(m))
    particle.of_charge.set(0, particle.of_charge.get(0) + lane_sum(values.get()) + single.get())


def _contract(code: Code, panel: Panel, row: Reals, particle: Particle, first: Index, count: int) -> list[Variable]:
    """Sums over the third axis for some of the second, by lane; adds to the gradient of the factor of the third."""
    charge = particle.charge.broadcast(0)
    factors = [charge * particle.y.broadcast(first + number) for number in range(count)]
    lines = [row.at((first + number - panel.first) * panel.inner) for number in range(count)]
    sums = [code.variable(code.broadcast(0.0)) for _ in range(count)]
    with code.loop(0, panel.inner, code.lanes) as v:
        z, of_z = particle.z.load(v), particle.of_z.load(v)
        for factor, line, total in zip(factors, lines, sums, strict=True):
            numbers = line.load(v)
            total.add_product(numbers, z)
            of_z = code.fused(factor, numbers, of_z)
        particle.of_z.store(v, of_z)
    return sums
