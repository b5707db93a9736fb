# mypy: disable-error-code="no-untyped-def, assignment"
"""The spherical harmonics in Triton: an edge to a lane, the recursion unrolled over a table's terms in registers."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mlip_kernels.gpu_compile import CompileCase
from mlip_kernels.gpu_launch import launch
from mlip_kernels.spherical_harmonics.table import HarmonicsTable, highest_degree

_EDGES = 32
# For each component the terms of its sum: component of the degree below, axis, coefficient, and degree times that.
Terms = tuple[tuple[tuple[int, int, float, float], ...], ...]


@triton.jit
def _load(vectors, edge, mask):
    """Components of vectors [edges, 3]."""
    x = tl.load(vectors + 3 * edge, mask=mask, other=0.0)
    y = tl.load(vectors + 3 * edge + 1, mask=mask, other=0.0)
    return x, y, tl.load(vectors + 3 * edge + 2, mask=mask, other=0.0)


@triton.jit
def _store(result, edge, x, y, z, mask):
    tl.store(result + 3 * edge, x, mask=mask)
    tl.store(result + 3 * edge + 1, y, mask=mask)
    tl.store(result + 3 * edge + 2, z, mask=mask)


@triton.jit
def _direction(x, y, z):
    """Unit vector and inverse length, both zero for a zero vector."""
    square = x * x + y * y + z * z
    inverse = tl.where(square == 0.0, 0.0, 1.0 / tl.sqrt(tl.where(square == 0.0, 1.0, square)))
    return x * inverse, y * inverse, z * inverse, inverse


@triton.jit
def _raise(u, terms: tl.constexpr):
    """Solid harmonics of the directions, a tuple."""
    rows = (tl.full(u[0].shape, 1.0, u[0].dtype),)
    for component in tl.static_range(1, len(terms)):
        total = tl.zeros_like(u[0])
        for term in tl.static_range(len(terms[component])):
            total += terms[component][term][2] * rows[terms[component][term][0]] * u[terms[component][term][1]]
        rows = rows + (total,)  # noqa: RUF005 (Triton knows no unpacking)
    return rows


@triton.jit
def _change(rows, turning, terms: tl.constexpr):
    """Change of the solid harmonics as the directions turn, a tuple."""
    changes = (tl.zeros_like(rows[0]),)
    for component in tl.static_range(1, len(terms)):
        total = tl.zeros_like(rows[0])
        for term in tl.static_range(len(terms[component])):
            lower = rows[terms[component][term][0]]
            total += terms[component][term][3] * lower * turning[terms[component][term][1]]
        changes = changes + (total,)  # noqa: RUF005
    return changes


@triton.jit
def _lower(gradient, edge, mask, rows, terms: tl.constexpr):
    """Gradient of `<gradient, solid harmonics>` with respect to the directions."""
    h = (tl.zeros_like(rows[0]), tl.zeros_like(rows[0]), tl.zeros_like(rows[0]))
    for component in tl.static_range(1, len(terms)):
        given = tl.load(gradient + len(terms) * edge + component, mask=mask, other=0.0)
        for term in tl.static_range(len(terms[component])):
            added = terms[component][term][3] * given * rows[terms[component][term][0]]
            if terms[component][term][1] == 0:
                h = (h[0] + added, h[1], h[2])
            elif terms[component][term][1] == 1:
                h = (h[0], h[1] + added, h[2])
            else:
                h = (h[0], h[1], h[2] + added)
    return h


@triton.jit
def harmonics_values(vectors, result, num_edges, terms: tl.constexpr, edges: tl.constexpr):
    """Values."""
    edge = tl.program_id(0).to(tl.int64) * edges + tl.arange(0, edges)
    mask = edge < num_edges
    x, y, z = _load(vectors, edge, mask)
    ux, uy, uz, _ = _direction(x, y, z)
    rows = _raise((ux, uy, uz), terms)
    for component in tl.static_range(len(terms)):
        tl.store(result + len(terms) * edge + component, rows[component], mask=mask)


@triton.jit
def harmonics_backward(vectors, gradient, result, num_edges, terms: tl.constexpr, edges: tl.constexpr):
    """Gradient of `<gradient, values>` with respect to the vectors."""
    edge = tl.program_id(0).to(tl.int64) * edges + tl.arange(0, edges)
    mask = edge < num_edges
    x, y, z = _load(vectors, edge, mask)
    ux, uy, uz, inverse = _direction(x, y, z)
    hx, hy, hz = _lower(gradient, edge, mask, _raise((ux, uy, uz), terms), terms)
    along = ux * hx + uy * hy + uz * hz
    _store(result, edge, (hx - ux * along) * inverse, (hy - uy * along) * inverse, (hz - uz * along) * inverse, mask)


@triton.jit
def harmonics_second(
    vectors, gradient, cotangent, of_vectors, of_gradient, num_edges, terms: tl.constexpr, edges: tl.constexpr
):
    """The Hessian is symmetric, so that its product with the cotangent is the change of the gradient along it."""
    edge = tl.program_id(0).to(tl.int64) * edges + tl.arange(0, edges)
    mask = edge < num_edges
    x, y, z = _load(vectors, edge, mask)
    wx, wy, wz = _load(cotangent, edge, mask)
    ux, uy, uz, inverse = _direction(x, y, z)
    along = ux * wx + uy * wy + uz * wz
    tx, ty, tz = (wx - ux * along) * inverse, (wy - uy * along) * inverse, (wz - uz * along) * inverse
    rows = _raise((ux, uy, uz), terms)
    changes = _change(rows, (tx, ty, tz), terms)
    for component in tl.static_range(len(terms)):
        tl.store(of_gradient + len(terms) * edge + component, changes[component], mask=mask)
    hx, hy, hz = _lower(gradient, edge, mask, rows, terms)
    dx, dy, dz = _lower(gradient, edge, mask, changes, terms)
    stretch = -along * inverse * inverse
    along = ux * hx + uy * hy + uz * hz
    moved = tx * hx + ty * hy + tz * hz + ux * dx + uy * dy + uz * dz
    fx = (dx - tx * along - ux * moved) * inverse + (hx - ux * along) * stretch
    fy = (dy - ty * along - uy * moved) * inverse + (hy - uy * along) * stretch
    fz = (dz - tz * along - uz * moved) * inverse + (hz - uz * along) * stretch
    _store(of_vectors, edge, fx, fy, fz, mask)


def values(vectors: Tensor, indices: Sequence[int], coefficients: Sequence[float]) -> Tensor:
    """The function of `reference.harmonics`."""
    result = vectors.new_empty(len(vectors), (highest_degree(indices) + 1) ** 2)
    _launch(harmonics_values, indices, coefficients, len(vectors), vectors, result)
    return result


def backward(vectors: Tensor, gradient: Tensor, indices: Sequence[int], coefficients: Sequence[float]) -> Tensor:
    """Gradient of `<gradient, values>` with respect to the vectors."""
    result = torch.empty_like(vectors, memory_format=torch.contiguous_format)
    _launch(harmonics_backward, indices, coefficients, len(vectors), vectors, gradient, result)
    return result


def second(
    vectors: Tensor, gradient: Tensor, cotangent: Tensor, indices: Sequence[int], coefficients: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Gradients of `<cotangent, backward>` with respect to the vectors and to the gradient."""
    of_vectors = torch.empty_like(vectors, memory_format=torch.contiguous_format)
    of_gradient = torch.empty_like(gradient, memory_format=torch.contiguous_format)
    arrays = vectors, gradient, cotangent, of_vectors, of_gradient
    _launch(harmonics_second, indices, coefficients, len(vectors), *arrays)
    return of_vectors, of_gradient


def _launch(
    kernel: Any, indices: Sequence[int], coefficients: Sequence[float], num_edges: int, *arrays: Tensor
) -> None:
    constants = {"terms": _by_component(tuple(indices), tuple(coefficients)), "edges": _EDGES}
    contiguous = [array.contiguous() for array in arrays]
    launch(kernel, (triton.cdiv(num_edges, _EDGES),), [*contiguous, num_edges], constants)


@cache
def _by_component(indices: tuple[int, ...], coefficients: tuple[float, ...]) -> Terms:
    components: list[list[tuple[int, int, float, float]]] = [[] for _ in range((highest_degree(indices) + 1) ** 2)]
    for i, j, k, value in zip(indices[::3], indices[1::3], indices[2::3], coefficients, strict=True):
        components[i].append((j, k, value, math.isqrt(i) * value))
    return tuple(tuple(component) for component in components)


def compile_cases(table: HarmonicsTable) -> list[CompileCase]:
    """The kernels of a table, to be compiled without a GPU."""
    indices, coefficients = table.terms
    terms = _by_component(tuple(indices), tuple(coefficients))
    names = ("vectors", "gradient", "cotangent", "result", "of_vectors", "of_gradient")
    types = dict.fromkeys(names, "*fp32") | {"num_edges": "i32"}
    return [
        CompileCase(
            kernel.fn.__name__,
            kernel,
            {name: types[name] for name in kernel.arg_names if name in types},
            {"terms": terms, "edges": _EDGES},
        )
        for kernel in (harmonics_values, harmonics_backward, harmonics_second)
    ]
