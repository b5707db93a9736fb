"""The factorised convolution and its gradients on the CPU, as compiled programs.

Tasks share out targets, or edges for the gradients of what edges have, so that no two write the same numbers.
"""

from functools import cache

import torch
from torch import Tensor

from mlip_kernels.simd.code import Code, Index, Indices, Reals, RealType, Variable
from mlip_kernels.simd.program import Program
from mlip_kernels.simd.reduction import LaneSums, lane_sum
from mlip_kernels.simd.target import host_target

_REALS: dict[torch.dtype, RealType] = {torch.float32: "float32", torch.float64: "float64"}
# Points whose sums are in registers together.
_POINTS_AT_ONCE = 8
# Arguments of both programs, in order, and of each alone.
_COUNT, _POINTS, _ROWS, _CHANNELS, _VALUES, _FILTERS, _WEIGHTS, _SOURCES = range(8)
_ORDER, _STARTS, _RESULT = range(8, 11)
_TARGETS, _RECEIVED, _OF_FILTERS, _OF_WEIGHTS = range(8, 12)


def convolve(
    values: Tensor, filters: Tensor, weights: Tensor, sources: Tensor, order: Tensor, starts: Tensor
) -> Tensor:
    """The convolution into targets.

    Args:
        values: [sources, points, channels].
        filters: [edges, rows, points].
        weights: [edges, rows, channels].
        sources: Source of each edge, int64 [edges].
        order: Edges in the order of their targets, int64 [edges].
        starts: First place in `order` of each target, and the number of edges, int64 [targets + 1].

    Returns:
        [targets, points, channels].
    """
    real = _REALS[values.dtype]
    padded_values, padded_weights = _padded(values, real), _padded(weights, real)
    _, points, channels = padded_values.shape
    targets = len(starts) - 1
    result = values.new_empty(targets, points, channels)
    sizes = [targets, points, filters.shape[1], channels]
    arrays = padded_values, filters, padded_weights, sources, order, starts
    _convolution(real)([*sizes, *(each.contiguous() for each in arrays), result], _tasks(targets))
    return result[:, :, : values.shape[2]].contiguous()


def edge_gradients(
    received: Tensor, values: Tensor, filters: Tensor, weights: Tensor, sources: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of `<received, convolution>` with respect to filters and weights."""
    real = _REALS[values.dtype]
    padded_values, padded_weights, padded_received = (_padded(each, real) for each in (values, weights, received))
    edges, rows, points = filters.shape
    of_filters = torch.empty_like(filters, memory_format=torch.contiguous_format)
    of_weights = torch.empty_like(padded_weights, memory_format=torch.contiguous_format)
    sizes = [edges, points, rows, padded_values.shape[2]]
    arrays = padded_values, filters, padded_weights, sources, targets, padded_received
    results = of_filters, of_weights
    _gradients(real)([*sizes, *(each.contiguous() for each in arrays), *results], _tasks(edges))
    return of_filters, of_weights[:, :, : values.shape[2]].contiguous()


def _padded(tensor: Tensor, real: RealType) -> Tensor:
    """A tensor whose channels are followed by zeros up to whole vectors."""
    missing = -tensor.shape[2] % host_target().lanes(real)
    return torch.nn.functional.pad(tensor.detach(), (0, missing)) if missing else tensor.detach()


def _tasks(count: int) -> int:
    return max(1, min(torch.get_num_threads(), count))


@cache
def _convolution(real: RealType) -> Program:
    return Program("Factorised convolution.", "factorised_convolution forward", real, [_emit_convolution])


@cache
def _gradients(real: RealType) -> Program:
    title = "Gradients of the factorised convolution."
    return Program(title, "factorised_convolution gradients", real, [_emit_gradients])


def _emit_convolution(code: Code, arguments: Indices, task: Index, tasks: Index) -> None:
    count, points, channels = (arguments.get(place) for place in (_COUNT, _POINTS, _CHANNELS))
    starts, result = arguments.indices(_STARTS), arguments.reals(_RESULT)
    whole = (points // _POINTS_AT_ONCE) * _POINTS_AT_ONCE
    with code.loop((task * count) // tasks, ((task + 1) * count) // tasks) as target:
        first, last = starts.get(target), starts.get(target + 1)
        for at_once, begin, end in ((_POINTS_AT_ONCE, code.index(0), whole), (1, whole, points)):
            with code.loop(begin, end, at_once) as point, code.loop(0, channels, code.lanes) as channel:
                sums = [code.variable(code.broadcast(0.0)) for _ in range(at_once)]
                with code.loop(first, last) as place:
                    _add_message(code, arguments, place, point, channel, sums)
                row = result.at((target * points + point) * channels + channel)
                for number, total in enumerate(sums):
                    row.at(channels * number).store(0, total.get())


def _add_message(
    code: Code, arguments: Indices, place: Index, point: Index, channel: Index, sums: list[Variable]
) -> None:
    """Add one edge's message, of a few points and a vector of channels."""
    points, rows, channels = (arguments.get(each) for each in (_POINTS, _ROWS, _CHANNELS))
    edge = arguments.indices(_ORDER).get(place)
    source = arguments.indices(_SOURCES).get(edge)
    factors = [code.variable(code.broadcast(0.0)) for _ in sums]
    with code.loop(edge * rows, (edge + 1) * rows) as row:
        weight = arguments.reals(_WEIGHTS).load(row * channels + channel)
        filters = arguments.reals(_FILTERS).at(row * points + point)
        for number, factor in enumerate(factors):
            factor.add_product(filters.broadcast(number), weight)
    values = arguments.reals(_VALUES).at((source * points + point) * channels + channel)
    for number, (factor, total) in enumerate(zip(factors, sums, strict=True)):
        total.add_product(factor.get(), values.at(channels * number).load(0))


def _emit_gradients(code: Code, arguments: Indices, task: Index, tasks: Index) -> None:
    count, points, rows, channels = (arguments.get(place) for place in (_COUNT, _POINTS, _ROWS, _CHANNELS))
    of_filters, of_weights = arguments.reals(_OF_FILTERS), arguments.reals(_OF_WEIGHTS)
    whole = (points // code.lanes) * code.lanes
    with code.loop((task * count) // tasks, ((task + 1) * count) // tasks) as edge:
        sent = arguments.reals(_VALUES).at(arguments.indices(_SOURCES).get(edge) * points * channels)
        received = arguments.reals(_RECEIVED).at(arguments.indices(_TARGETS).get(edge) * points * channels)
        with code.loop(edge * rows, (edge + 1) * rows) as row:
            of_weights.at(row * channels).clear(channels)
            for at_once, begin, end in ((code.lanes, code.index(0), whole), (1, whole, points)):
                with code.loop(begin, end, at_once) as point:
                    offset = point * channels
                    sums = _row_gradients(code, arguments, row, point, sent.at(offset), received.at(offset), at_once)
                    place = of_filters.at(row * points + point)
                    if at_once == 1:
                        place.set(0, lane_sum(sums[0].get()))
                    else:
                        combined = LaneSums()
                        for number, total in enumerate(sums):
                            combined.add(number, total.get())
                        place.store(0, combined.result())


def _row_gradients(
    code: Code, arguments: Indices, row: Index, point: Index, sent: Reals, received: Reals, at_once: int
) -> list[Variable]:
    """Add the gradient of a row's weights from a few points, and return that of its filter at each, by lanes."""
    points, channels = arguments.get(_POINTS), arguments.get(_CHANNELS)
    filters = arguments.reals(_FILTERS).at(row * points + point)
    weights, of_weights = (arguments.reals(place).at(row * channels) for place in (_WEIGHTS, _OF_WEIGHTS))
    sums = [code.variable(code.broadcast(0.0)) for _ in range(at_once)]
    with code.loop(0, channels, code.lanes) as channel:
        weight = weights.load(channel)
        # Four chains, since one would wait for every addition.
        parts = [of_weights.load(channel), *(code.broadcast(0.0) for _ in range(min(at_once, 4) - 1))]
        for number, total in enumerate(sums):
            place = channels * number + channel
            product = sent.load(place) * received.load(place)
            total.add_product(product, weight)
            chain = number % len(parts)
            parts[chain] = code.fused(filters.broadcast(number), product, parts[chain])
        of_weights.store(channel, sum(parts[1:], parts[0]))
    return sums
