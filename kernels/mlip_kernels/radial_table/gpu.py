# mypy: disable-error-code="no-untyped-def"
"""The radial table in Triton.

Numbers are placed between knots in float64, whatever the type of the table. Nothing is added up in a random order: the
transpose sorts edges by their knots first.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mlip_kernels.gpu_compile import CompileCase
from mlip_kernels.gpu_launch import launch
from mlip_kernels.radial_table.grid import KnotGrid

_EDGES, _COLUMNS, _SOLVED = 4, 128, 32


@triton.jit
def _basis(distances, mask, origin: tl.constexpr, spacing: tl.constexpr, knots: tl.constexpr, order: tl.constexpr):
    """First of four knots, and the derivatives of their B-splines, which are zero outside of the grid."""
    place = (tl.load(distances, mask=mask, other=0.0).to(tl.float64) - origin) / spacing
    inside = (place >= 1.0) & (place < knots - 2)
    cell = tl.where(inside, place, 1.0).to(tl.int32)
    t = place - cell
    if order == 0:
        b0, b1 = (1 - t) * (1 - t) * (1 - t) / 6, ((3 * t - 6) * t * t + 4) / 6
        b2, b3 = (((-3 * t + 3) * t + 3) * t + 1) / 6, t * t * t / 6
    elif order == 1:
        b0, b1 = (t - 1) * (1 - t) / 2, (3 * t - 4) * t / 2
        b2, b3 = ((-3 * t + 2) * t + 1) / 2, t * t / 2
    elif order == 2:
        b0, b1, b2, b3 = 1 - t, 3 * t - 2, 1 - 3 * t, t
    else:
        one = t * 0.0 + (1.0 if order == 3 else 0.0)
        b0, b1, b2, b3 = -one, 3 * one, -3 * one, one
    # A place that is not a number is not inside, and must not pass for zero.
    outside = tl.where(place == place, 0.0, place)
    b0, b1 = tl.where(inside, b0, outside), tl.where(inside, b1, outside)
    b2, b3 = tl.where(inside, b2, outside), tl.where(inside, b3, outside)
    for _ in tl.static_range(order):
        b0, b1, b2, b3 = b0 / spacing, b1 / spacing, b2 / spacing, b3 / spacing
    return cell - 1, b0, b1, b2, b3


@triton.jit
def _combined(table, first, b0, b1, b2, b3, column, mask, columns: tl.constexpr):
    """Rows `first` … `first + 3` of the table by these factors, [edges, columns]."""
    rows = table + first[:, None] * columns + column[None, :]
    real: tl.constexpr = table.dtype.element_ty
    total = b0.to(real)[:, None] * tl.load(rows, mask=mask, other=0.0)
    total += b1.to(real)[:, None] * tl.load(rows + columns, mask=mask, other=0.0)
    total += b2.to(real)[:, None] * tl.load(rows + 2 * columns, mask=mask, other=0.0)
    return total + b3.to(real)[:, None] * tl.load(rows + 3 * columns, mask=mask, other=0.0)


@triton.jit
def radial_interpolate(
    coefficients,
    distances,
    result,
    num_edges,
    columns: tl.constexpr,
    origin: tl.constexpr,
    spacing: tl.constexpr,
    knots: tl.constexpr,
    order: tl.constexpr,
    edges: tl.constexpr,
    block: tl.constexpr,
):
    """A program is some edges and a block of columns."""
    edge = tl.program_id(0) * edges + tl.arange(0, edges)
    column = tl.program_id(1) * block + tl.arange(0, block)
    first, b0, b1, b2, b3 = _basis(distances + edge, edge < num_edges, origin, spacing, knots, order)
    mask = (edge < num_edges)[:, None] & (column < columns)[None, :]
    values = _combined(coefficients, first, b0, b1, b2, b3, column, mask, columns)
    tl.store(result + edge.to(tl.int64)[:, None] * columns + column[None, :], values, mask=mask)


@triton.jit
def radial_dot(
    gradient,
    coefficients,
    distances,
    result,
    num_edges,
    columns: tl.constexpr,
    origin: tl.constexpr,
    spacing: tl.constexpr,
    knots: tl.constexpr,
    order: tl.constexpr,
    edges: tl.constexpr,
    block: tl.constexpr,
):
    """A program is some edges and all columns, which are added up in one warp."""
    edge = tl.program_id(0) * edges + tl.arange(0, edges)
    first, b0, b1, b2, b3 = _basis(distances + edge, edge < num_edges, origin, spacing, knots, order)
    total = tl.zeros([edges, block], coefficients.dtype.element_ty)
    for begin in range(0, columns, block):
        column = begin + tl.arange(0, block)
        mask = (edge < num_edges)[:, None] & (column < columns)[None, :]
        values = _combined(coefficients, first, b0, b1, b2, b3, column, mask, columns)
        given = gradient + edge.to(tl.int64)[:, None] * columns + column[None, :]
        total += values * tl.load(given, mask=mask, other=0.0)
    tl.store(result + edge, tl.sum(total, 1), mask=edge < num_edges)


@triton.jit
def radial_project(
    gradient,
    distances,
    sorted_edges,
    starts,
    result,
    columns: tl.constexpr,
    origin: tl.constexpr,
    spacing: tl.constexpr,
    knots: tl.constexpr,
    order: tl.constexpr,
    edges: tl.constexpr,
    block: tl.constexpr,
):
    """A program is one knot and a block of columns; edges with that knot among their four stand together."""
    knot = tl.program_id(0)
    column = tl.program_id(1) * block + tl.arange(0, block)
    real: tl.constexpr = gradient.dtype.element_ty
    total = tl.zeros([edges, block], real)
    end = tl.load(starts + tl.minimum(knot, knots - 4) + 1)
    for begin in range(tl.load(starts + tl.maximum(knot - 3, 0)), end, edges):
        place = begin + tl.arange(0, edges)
        edge = tl.load(sorted_edges + place, mask=place < end, other=0)
        first, b0, b1, b2, b3 = _basis(distances + edge, place < end, origin, spacing, knots, order)
        number = knot - first
        factor = tl.where(number == 0, b0, tl.where(number == 1, b1, tl.where(number == 2, b2, b3)))
        mask = (place < end)[:, None] & (column < columns)[None, :]
        values = tl.load(gradient + edge[:, None] * columns + column[None, :], mask=mask, other=0.0)
        total += factor.to(real)[:, None] * values
    tl.store(result + knot * columns + column, tl.sum(total, 0), mask=column < columns)


@triton.jit
def radial_solve(right, result, pivots, num_rows, num_columns, block: tl.constexpr):
    """A program is a block of columns, each lane of which eliminates its own column."""
    column = tl.program_id(0) * block + tl.arange(0, block)
    mask = column < num_columns
    above = tl.zeros([block], tl.float64)
    for row in range(num_rows):
        given = tl.load(right + row * num_columns + column, mask=mask, other=0.0)
        above = tl.load(pivots + row) * (6.0 * given - above)
        tl.store(result + row * num_columns + column, above, mask=mask)
    below = tl.zeros([block], tl.float64)
    for back in range(num_rows):
        row = num_rows - 1 - back
        place = result + row * num_columns + column
        below = tl.load(place, mask=mask, other=0.0) - tl.load(pivots + row) * below
        tl.store(place, below, mask=mask)


def interpolate(coefficients: Tensor, distances: Tensor, origin: float, spacing: float, order: int) -> Tensor:
    """The function of `reference.interpolate`."""
    knots, columns = coefficients.shape
    result = coefficients.new_empty(len(distances), columns)
    grid = triton.cdiv(len(distances), _EDGES), triton.cdiv(columns, _COLUMNS)
    arguments = coefficients.contiguous(), distances.contiguous(), result, len(distances)
    launch(radial_interpolate, grid, arguments, _constants(columns, KnotGrid(origin, spacing, knots), order))
    return result


def project(gradient: Tensor, distances: Tensor, origin: float, spacing: float, knots: int, order: int) -> Tensor:
    """The transpose of `interpolate`: [edges, columns] to [knots, columns]."""
    columns = gradient.shape[1]
    result = gradient.new_empty(knots, columns)
    places = (distances.double() - origin) / spacing
    inside = (places >= 1) & (places < knots - 2)
    # Those outside are added up nowhere, unless they are not numbers.
    first = torch.where(inside, places - 1, torch.where(places.isnan(), 0.0, float(knots))).long()
    ordered, sorted_edges = first.sort(stable=True)
    starts = torch.searchsorted(ordered, torch.arange(knots - 2, device=ordered.device))
    arguments = gradient.contiguous(), distances.contiguous(), sorted_edges, starts, result
    constants = _constants(columns, KnotGrid(origin, spacing, knots), order)
    launch(radial_project, (knots, triton.cdiv(columns, _COLUMNS)), arguments, constants)
    return result


def dot(gradient: Tensor, coefficients: Tensor, distances: Tensor, origin: float, spacing: float, order: int) -> Tensor:
    """Sum over columns of the gradient times `interpolate`, [edges]."""
    knots, columns = coefficients.shape
    result = torch.empty_like(distances, memory_format=torch.contiguous_format)
    arguments = gradient.contiguous(), coefficients.contiguous(), distances.contiguous(), result, len(distances)
    constants = _constants(columns, KnotGrid(origin, spacing, knots), order)
    launch(radial_dot, (triton.cdiv(len(distances), _EDGES),), arguments, constants)
    return result


def solve(right: Tensor) -> Tensor:
    """Solve (x[k-1] + 4 x[k] + x[k+1]) / 6 = right[k], x zero beyond the ends, for float64 columns [rows, columns]."""
    rows, columns = right.shape
    result = torch.empty_like(right, memory_format=torch.contiguous_format)
    pivots = [0.25]
    while len(pivots) < rows:
        pivots.append(1 / (4 - pivots[-1]))
    arguments = right.contiguous(), result, right.new_tensor(pivots), rows, columns
    launch(radial_solve, (triton.cdiv(columns, _SOLVED),), arguments, {"block": _SOLVED})
    return result


def _constants(columns: int, grid: KnotGrid, order: int) -> dict[str, int | float]:
    return {
        **{"columns": columns, "origin": grid.origin, "spacing": grid.spacing, "knots": grid.knots},
        **{"order": order, "edges": _EDGES, "block": _COLUMNS},
    }


def compile_cases() -> list[CompileCase]:
    """The kernels as a model of the default size launches them, for values, forces and training on forces."""
    table = dict.fromkeys(("coefficients", "gradient", "distances", "result"), "*fp32")
    interpolated = table | {"num_edges": "i32"}
    projected = table | {"sorted_edges": "*i64", "starts": "*i64"}
    grid = KnotGrid.covering(5.0, 256)
    cases = [
        CompileCase(f"{kernel.fn.__name__}_{order}", kernel, _needed(kernel, types), _constants(1280, grid, order))
        for kernel, types, orders in (
            (radial_interpolate, interpolated, (0, 1)),
            (radial_dot, interpolated, (1, 2)),
            (radial_project, projected, (0, 1)),
        )
        for order in orders
    ]
    solved = dict.fromkeys(("right", "result", "pivots"), "*fp64") | {"num_rows": "i32", "num_columns": "i32"}
    return [*cases, CompileCase("radial_solve", radial_solve, solved, {"block": _SOLVED})]


def _needed(kernel: Any, types: dict[str, str]) -> dict[str, str]:
    """Those types that a kernel has arguments for."""
    return {name: types[name] for name in kernel.arg_names if name in types}
