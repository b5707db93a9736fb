"""The factorised product on the CPU, as a compiled program.

A row's vectors of channels are treated one after another. For a few points at a time the values of both operands are
summed in registers, multiplied, and added to the result, which stays in the first-level cache like the operands.
"""

from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from mlip_kernels.simd.code import Code, Index, Indices, Reals, RealType, Vector
from mlip_kernels.simd.program import Program
from mlip_kernels.simd.reduction import lane_sum
from mlip_kernels.simd.target import host_target

_REALS: dict[torch.dtype, RealType] = {torch.float32: "float32", torch.float64: "float64"}
# Whether y has one channel for all of x's, and whether the result is summed over channels.
_FORMS = [(False, False), (False, True), (True, False), (True, True)]
# Arguments of the program, in order.
(
    _FORM, _ROWS, _D1, _D2, _D3, _POINTS, _CHANNELS, _X, _Y, _FIRST, _SECOND, _THIRD, _RESULT, _SCRATCH, _SHARE,
) = range(15)  # fmt: skip


def product(x: Tensor, y: Tensor, first: Tensor, second: Tensor, third: Tensor, summed: bool) -> Tensor:
    """The function of `reference.product`."""
    if x.shape[2] < y.shape[2]:
        x, y, first, second = y, x, second, first
    rows, _, channels = x.shape
    result = x.new_empty(rows, third.shape[1], 1 if summed else channels)
    form = _FORMS.index((y.shape[2] < channels, summed))
    real = _REALS[x.dtype]
    lanes = host_target().lanes(real)
    tables = [_by_component(table.detach(), max(lanes, _points_at_once())) for table in (first, second, third)]
    points = tables[0].shape[1]
    tasks = max(1, min(torch.get_num_threads(), rows))
    # Of each task: a vector of every component, and a number and a vector for every point.
    share = (sum(len(table) for table in tables) + points) * lanes + points
    scratch = x.new_empty(tasks * share)
    sizes = [form, rows, *(len(table) for table in tables), points, channels]
    arrays = [x.detach().contiguous(), y.detach().contiguous(), *tables, result, scratch]
    _program(real)([*sizes, *arrays, share], tasks)
    return result


def _by_component(table: Tensor, multiple: int) -> Tensor:
    """A table [points, components] as [components, points], with points of zero up to a multiple."""
    points, components = table.shape
    padded = table.new_zeros(components, -(-max(points, 1) // multiple) * multiple)
    padded[:, :points] = table.T
    return padded


def _points_at_once() -> int:
    """Points whose values of one operand are in registers together: sums of each fill the latency of additions."""
    return 8 if host_target().vector_registers >= 32 else 4


@cache
def _program(real: RealType) -> Program:
    points = _points_at_once()
    return Program("Factorised product.", f"factorised_product {points}", real, [partial(_emit, points)])


def _emit(points: int, code: Code, arguments: Indices, task: Index, tasks: Index) -> None:
    """A task's share of the rows, in the form asked for."""
    rows = arguments.get(_ROWS)
    for number, (single, summed) in enumerate(_FORMS):
        with code.when(arguments.get(_FORM).compare("==", number)):
            emitter = _Emitter(single, summed, points)
            with code.loop((task * rows) // tasks, ((task + 1) * rows) // tasks) as row:
                emitter.row(code, _Operands(code, arguments, task), row)


@dataclass(frozen=True)
class _Emitter:
    """Emits the product of one row.

    Attributes:
        single: Whether y has one channel for all of x's.
        summed: Whether the result is summed over channels.
        points: Points treated at once.
    """

    single: bool
    summed: bool
    points: int

    def row(self, code: Code, operands: "_Operands", row: Index) -> None:
        if self.single:
            self._single_values(code, operands, row)
        if self.summed:
            operands.sums.clear(operands.points * code.lanes)
        with code.loop(0, operands.channels, code.lanes) as channel:
            width = (operands.channels - channel).least(code.lanes)
            operands.gather(code, operands.x, operands.block_x, row, operands.d1, channel, width)
            if not self.single:
                operands.gather(code, operands.y, operands.block_y, row, operands.d2, channel, width)
            if not self.summed:
                operands.block_z.clear(operands.d3 * code.lanes)
            with code.loop(0, operands.points, self.points) as point:
                self._add_points(code, operands, point)
            if not self.summed:
                operands.scatter(code, row, channel, width)
        if self.summed:
            self._sum_channels(code, operands, row)

    def _add_points(self, code: Code, operands: "_Operands", point: Index) -> None:
        """Products at a few points, added to the result or to the points' sums."""
        values = self._values(code, operands.block_x, operands.first, operands.d1, operands.points, point)
        if self.single:
            others = [operands.numbers.broadcast(point + number) for number in range(self.points)]
        else:
            others = self._values(code, operands.block_y, operands.second, operands.d2, operands.points, point)
        products = [value * other for value, other in zip(values, others, strict=True)]
        if self.summed:
            for number, product in enumerate(products):
                operands.sums.add((point + number) * code.lanes, product)
            return
        with code.loop(0, operands.d3) as component:
            total = operands.block_z.load(component * code.lanes)
            factors = operands.third.at(component * operands.points + point)
            for number, product in enumerate(products):
                total = code.fused(factors.broadcast(number), product, total)
            operands.block_z.store(component * code.lanes, total)

    def _values(
        self, code: Code, block: Reals, table: Reals, components: Index, points: Index, point: Index
    ) -> list[Vector]:
        """Values of an operand at a few points."""
        totals = [code.variable(code.broadcast(0.0)) for _ in range(self.points)]
        with code.loop(0, components) as component:
            vector = block.load(component * code.lanes)
            factors = table.at(component * points + point)
            for number, total in enumerate(totals):
                total.add_product(factors.broadcast(number), vector)
        return [total.get() for total in totals]

    def _single_values(self, code: Code, operands: "_Operands", row: Index) -> None:
        """Values of the one channel of y at all points, in `numbers`."""
        own = operands.y.at(row * operands.d2)
        with code.loop(0, operands.points, code.lanes) as point:
            total = code.variable(code.broadcast(0.0))
            with code.loop(0, operands.d2) as component:
                total.add_product(own.broadcast(component), operands.second.load(component * operands.points + point))
            operands.numbers.store(point, total.get())

    def _sum_channels(self, code: Code, operands: "_Operands", row: Index) -> None:
        """The result from the sums at the points; they overwrite the values of y, which are needed no more."""
        with code.loop(0, operands.points) as point:
            operands.numbers.set(point, lane_sum(operands.sums.load(point * code.lanes)))
        with code.loop(0, operands.d3) as component:
            total = code.variable(code.broadcast(0.0))
            with code.loop(0, operands.points, code.lanes) as point:
                factors = operands.third.load(component * operands.points + point)
                total.add_product(factors, operands.numbers.load(point))
            operands.result.set(row * operands.d3 + component, lane_sum(total.get()))


class _Operands:
    """The arguments of a program, and a task's own memory."""

    def __init__(self, code: Code, arguments: Indices, task: Index) -> None:
        self.d1, self.d2, self.d3 = (arguments.get(place) for place in (_D1, _D2, _D3))
        self.points, self.channels = arguments.get(_POINTS), arguments.get(_CHANNELS)
        self.x, self.y, self.result = (arguments.reals(place) for place in (_X, _Y, _RESULT))
        self.first, self.second, self.third = (arguments.reals(place) for place in (_FIRST, _SECOND, _THIRD))
        self.block_x = arguments.reals(_SCRATCH).at(task * arguments.get(_SHARE))
        self.block_y = self.block_x.at(self.d1 * code.lanes)
        self.block_z = self.block_y.at(self.d2 * code.lanes)
        self.sums = self.block_z.at(self.d3 * code.lanes)
        self.numbers = self.sums.at(self.points * code.lanes)

    def gather(
        self, code: Code, operand: Reals, block: Reals, row: Index, components: Index, channel: Index, width: Index
    ) -> None:
        """Copy a vector of channels of all components to a block, zero beyond the last channel."""
        with code.loop(0, components) as component:
            source = operand.at((row * components + component) * self.channels + channel)
            target = block.at(component * code.lanes)
            with code.when(width.compare("==", code.lanes)):
                target.store(0, source.load(0))
            with code.when(width.compare("<", code.lanes)):
                target.store(0, code.broadcast(0.0))
                with code.loop(0, width) as lane:
                    target.set(lane, source.get(lane))

    def scatter(self, code: Code, row: Index, channel: Index, width: Index) -> None:
        """Copy the block of the result to its place."""
        with code.loop(0, self.d3) as component:
            source = self.block_z.at(component * code.lanes)
            target = self.result.at((row * self.d3 + component) * self.channels + channel)
            with code.when(width.compare("==", code.lanes)):
                target.store(0, source.load(0))
            with code.when(width.compare("<", code.lanes)), code.loop(0, width) as lane:
                target.set(lane, source.get(lane))
