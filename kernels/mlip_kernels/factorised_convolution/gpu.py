# mypy: disable-error-code="no-untyped-def, assignment"
"""The factorised convolution and its gradients in Triton: one warp a program, channels along the lanes, no atomics."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from mlip_kernels.gpu_compile import CompileCase
from mlip_kernels.gpu_launch import launch

_CHANNELS, _POINTS = 32, 16
# Numbers of a tile in the gradients, 32 a lane.
_TILE = 1024


@triton.jit
def factorised_convolution(
    values,
    filters,
    weights,
    sources,
    order,
    starts,
    result,
    points: tl.constexpr,
    rows: tl.constexpr,
    channels: tl.constexpr,
    block: tl.constexpr,
    side: tl.constexpr,
):
    """A program is one target, a block of channels and a block of points."""
    target = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * block + tl.arange(0, block)
    point = tl.program_id(2) * side + tl.arange(0, side)
    mask = (point < points)[:, None] & (channel < channels)[None, :]
    tile = point[:, None] * channels + channel[None, :]
    total = tl.zeros([side, block], values.dtype.element_ty)
    for place in range(tl.load(starts + target), tl.load(starts + target + 1)):
        edge = tl.load(order + place)
        factor = tl.zeros([side, block], values.dtype.element_ty)
        for row in range(edge * rows, (edge + 1) * rows):
            weight = tl.load(weights + row * channels + channel, mask=channel < channels, other=0.0)
            shared = tl.load(filters + row * points + point, mask=point < points, other=0.0)
            factor += shared[:, None] * weight[None, :]
        source = tl.load(sources + edge)
        total += factor * tl.load(values + source * points * channels + tile, mask=mask, other=0.0)
    tl.store(result + target * points * channels + tile, total, mask=mask)


@triton.jit
def factorised_edge_gradients(
    received,
    values,
    filters,
    weights,
    sources,
    targets,
    of_filters,
    of_weights,
    points: tl.constexpr,
    rows: tl.constexpr,
    channels: tl.constexpr,
    block: tl.constexpr,
    side: tl.constexpr,
):
    """A program is one edge, with all of its rows of weights, all channels and points."""
    edge = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, block)
    filters += edge * rows * points
    of_filters += edge * rows * points
    weights += edge * rows * channels
    of_weights += edge * rows * channels
    values += tl.load(sources + edge) * points * channels
    received += tl.load(targets + edge) * points * channels
    totals = (tl.zeros([block], values.dtype.element_ty),) * rows
    for begin in range(0, points, side):
        point = begin + tl.arange(0, side)
        mask = (point < points)[:, None] & (channel < channels)[None, :]
        tile = point[:, None] * channels + channel[None, :]
        product = tl.load(values + tile, mask=mask, other=0.0) * tl.load(received + tile, mask=mask, other=0.0)
        added = ()
        for row in tl.static_range(rows):
            weight = tl.load(weights + row * channels + channel, mask=channel < channels, other=0.0)
            shared = tl.load(filters + row * points + point, mask=point < points, other=0.0)
            sums = tl.sum(product * weight[None, :], 1)
            tl.store(of_filters + row * points + point, sums, mask=point < points)
            added = added + (totals[row] + tl.sum(product * shared[:, None], 0),)  # noqa: RUF005 (no unpacking here)
        totals = added
    for row in tl.static_range(rows):
        tl.store(of_weights + row * channels + channel, totals[row], mask=channel < channels)


def convolve(
    values: Tensor, filters: Tensor, weights: Tensor, sources: Tensor, order: Tensor, starts: Tensor
) -> Tensor:
    """The function of `cpu.convolve`."""
    _, points, channels = values.shape
    targets = len(starts) - 1
    result = values.new_empty(targets, points, channels)
    arrays = [each.contiguous() for each in (values, filters, weights, sources, order, starts)]
    grid = targets, triton.cdiv(channels, _CHANNELS), triton.cdiv(points, _POINTS)
    constants = _sizes(points, filters.shape[1], channels) | _CONVOLUTION_TILE
    launch(factorised_convolution, grid, [*arrays, result], constants)
    return result


def edge_gradients(
    received: Tensor, values: Tensor, filters: Tensor, weights: Tensor, sources: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """The function of `cpu.edge_gradients`."""
    edges, rows, points = filters.shape
    channels = weights.shape[2]
    results = [torch.empty_like(each, memory_format=torch.contiguous_format) for each in (filters, weights)]
    arrays = [each.contiguous() for each in (received, values, filters, weights, sources, targets)]
    constants = _sizes(points, rows, channels) | _gradient_tile(channels)
    launch(factorised_edge_gradients, (edges,), [*arrays, *results], constants)
    return results[0], results[1]


_CONVOLUTION_TILE = {"block": _CHANNELS, "side": _POINTS}


def _gradient_tile(channels: int) -> dict[str, int]:
    block = triton.next_power_of_2(channels)
    return {"block": block, "side": max(1, _TILE // block)}


def _sizes(points: int, rows: int, channels: int) -> dict[str, int]:
    return {"points": points, "rows": rows, "channels": channels}


def compile_cases() -> list[CompileCase]:
    """Both kernels for 128 channels, with the points of a grid for degrees up to 3 and a weight for each degree.

    Derivatives of the gradients have twice as many weights.
    """
    cases = []
    for points, rows in ((50, 4), (50, 8)):
        sizes = _sizes(points, rows, 128)
        for kernel, tile in (
            (factorised_convolution, _CONVOLUTION_TILE),
            (factorised_edge_gradients, _gradient_tile(128)),
        ):
            constants = sizes | tile
            integers = ("sources", "targets", "order", "starts")
            types = {
                name: "*i64" if name in integers else "*fp32" for name in kernel.arg_names if name not in constants
            }
            cases.append(CompileCase(f"{kernel.fn.__name__}_{points}_points_{rows}_rows", kernel, types, constants))
    return cases
