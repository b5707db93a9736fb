# mypy: disable-error-code="no-untyped-def"
"""The factorised product in Triton: values at a few points at a time, by matrix products of tiles in full precision."""

import triton
import triton.language as tl
from torch import Tensor

from mlip_kernels.gpu_compile import CompileCase
from mlip_kernels.gpu_launch import launch

# Sides of a tile for a matrix product are at least this.
_SIDE = 16
_CHANNELS = 32


@triton.jit
def _values(table, operand, point, components, channel, points, dim: tl.constexpr, channels: tl.constexpr):
    """Values [points, channels] of an operand [dim, channels] of one row at these points."""
    factors = tl.load(
        table + point[:, None] * dim + components[None, :],
        mask=(point < points)[:, None] & (components < dim)[None, :],
        other=0.0,
    )
    given = tl.load(
        operand + components[:, None] * channels + channel[None, :],
        mask=(components < dim)[:, None] & (channel < channels)[None, :],
        other=0.0,
    )
    return tl.dot(factors, given, input_precision="ieee", out_dtype=given.dtype)


@triton.jit
def _single_values(table, operand, point, components, points, dim: tl.constexpr):
    """Values [points, 1] of an operand of one channel."""
    mask = (point < points)[:, None] & (components < dim)[None, :]
    factors = tl.load(table + point[:, None] * dim + components[None, :], mask=mask, other=0.0)
    given = tl.load(operand + components, mask=components < dim, other=0.0)
    return tl.sum(factors * given[None, :], 1)[:, None]


@triton.jit
def product_of_channels(
    x,
    y,
    first,
    second,
    third,
    result,
    points,
    channels: tl.constexpr,
    d1: tl.constexpr,
    d2: tl.constexpr,
    d3: tl.constexpr,
    single: tl.constexpr,
    side: tl.constexpr,
    width1: tl.constexpr,
    width2: tl.constexpr,
    width3: tl.constexpr,
    block: tl.constexpr,
):
    """A program is one row and a block of channels."""
    row = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * block + tl.arange(0, block)
    out = tl.arange(0, width3)
    total = tl.zeros([width3, block], x.dtype.element_ty)
    x += row * d1 * channels
    for begin in range(0, points, side):
        point = begin + tl.arange(0, side)
        values = _values(first, x, point, tl.arange(0, width1), channel, points, d1, channels)
        if single:
            values *= _single_values(second, y + row * d2, point, tl.arange(0, width2), points, d2)
        else:
            own = y + row * d2 * channels
            values *= _values(second, own, point, tl.arange(0, width2), channel, points, d2, channels)
        mask = (out < d3)[:, None] & (point < points)[None, :]
        factors = tl.load(third + point[None, :] * d3 + out[:, None], mask=mask, other=0.0)
        total = tl.dot(factors, values, total, input_precision="ieee", out_dtype=total.dtype)
    place = result + row * d3 * channels + out[:, None] * channels + channel[None, :]
    tl.store(place, total, mask=(out < d3)[:, None] & (channel < channels)[None, :])


@triton.jit
def product_summed(
    x,
    y,
    first,
    second,
    third,
    result,
    points,
    channels: tl.constexpr,
    d1: tl.constexpr,
    d2: tl.constexpr,
    d3: tl.constexpr,
    single: tl.constexpr,
    side: tl.constexpr,
    width1: tl.constexpr,
    width2: tl.constexpr,
    width3: tl.constexpr,
    block: tl.constexpr,
):
    """A program is one row and all channels, which are summed at each point."""
    row = tl.program_id(0).to(tl.int64)
    out = tl.arange(0, width3)
    total = tl.zeros([width3], x.dtype.element_ty)
    x += row * d1 * channels
    for begin in range(0, points, side):
        point = begin + tl.arange(0, side)
        sums = tl.zeros([side, block], x.dtype.element_ty)
        for start in range(0, channels, block):
            channel = start + tl.arange(0, block)
            values = _values(first, x, point, tl.arange(0, width1), channel, points, d1, channels)
            if single:
                values *= _single_values(second, y + row * d2, point, tl.arange(0, width2), points, d2)
            else:
                own = y + row * d2 * channels
                values *= _values(second, own, point, tl.arange(0, width2), channel, points, d2, channels)
            sums += values
        mask = (out < d3)[:, None] & (point < points)[None, :]
        factors = tl.load(third + point[None, :] * d3 + out[:, None], mask=mask, other=0.0)
        total += tl.sum(factors * tl.sum(sums, 1)[None, :], 1)
    tl.store(result + row * d3 + out, total, mask=out < d3)


def product(x: Tensor, y: Tensor, first: Tensor, second: Tensor, third: Tensor, summed: bool) -> Tensor:
    """The function of `reference.product`."""
    if x.shape[2] < y.shape[2]:
        x, y, first, second = y, x, second, first
    rows, d1, channels = x.shape
    points, d3 = third.shape
    result = x.new_empty(rows, d3, 1 if summed else channels)
    arrays = [each.contiguous() for each in (x, y, first, second, third)]
    constants = _constants(channels, (d1, y.shape[1], d3), y.shape[2] < channels)
    kernel, grid = _launch_of(summed, rows, channels)
    launch(kernel, grid, [*arrays, result, points], constants, num_warps=_WARPS)
    return result


# Of a program: tiles of 16 by 32 numbers are a few for each of 64 threads.
_WARPS = 2


def _launch_of(summed: bool, rows: int, channels: int):
    if summed:
        return product_summed, (rows,)
    return product_of_channels, (rows, triton.cdiv(channels, _CHANNELS))


def _constants(channels: int, dims: tuple[int, int, int], single: bool) -> dict[str, int | bool]:
    d1, d2, d3 = dims
    width1, width2, width3 = (max(_SIDE, triton.next_power_of_2(dim)) for dim in dims)
    return {
        **{"channels": channels, "d1": d1, "d2": d2, "d3": d3, "single": single, "side": _SIDE},
        **{"width1": width1, "width2": width2, "width3": width3, "block": _CHANNELS},
    }


def compile_cases() -> list[CompileCase]:
    """All forms, for degrees up to 3 and 128 channels."""
    types = dict.fromkeys(("x", "y", "first", "second", "third", "result"), "*fp32") | {"points": "i32"}
    return [
        CompileCase(
            f"product_{'summed' if summed else 'of_channels'}{'_single' if single else ''}",
            product_summed if summed else product_of_channels,
            types,
            _constants(128, (16, 16, 16), single),
            _WARPS,
        )
        for summed in (False, True)
        for single in (False, True)
    ]
