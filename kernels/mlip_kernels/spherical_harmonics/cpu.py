# mypy: disable-error-code="no-untyped-def"
"""The spherical harmonics in Numba, for tiles of edges whose components stay in the first-level cache."""

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from mlip_kernels.backends import match_torch_threads
from mlip_kernels.spherical_harmonics.table import highest_degree

# Sums may be taken in another order; that numbers are finite is not assumed.
_FASTMATH = {"contract", "reassoc", "nsz"}
# Edges of a tile, along which the processor's vector units run.
_TILE = 64


def values(vectors: Tensor, indices: Sequence[int], coefficients: Sequence[float]) -> Tensor:
    """The function of `reference.harmonics`."""
    result = vectors.new_empty(len(vectors), (highest_degree(indices) + 1) ** 2)
    match_torch_threads(result.numel())
    _values(*_arrays(vectors), *_terms(indices, coefficients), result.numpy())
    return result


def backward(vectors: Tensor, gradient: Tensor, indices: Sequence[int], coefficients: Sequence[float]) -> Tensor:
    """Gradient of `<gradient, values>` with respect to the vectors."""
    match_torch_threads(gradient.numel())
    result = torch.empty_like(vectors, memory_format=torch.contiguous_format)
    _backward(*_arrays(vectors, gradient), *_terms(indices, coefficients), result.numpy())
    return result


def second(
    vectors: Tensor, gradient: Tensor, cotangent: Tensor, indices: Sequence[int], coefficients: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Gradients of `<cotangent, backward>` with respect to the vectors and to the gradient."""
    match_torch_threads(gradient.numel())
    of_vectors = torch.empty_like(vectors, memory_format=torch.contiguous_format)
    of_gradient = torch.empty_like(gradient, memory_format=torch.contiguous_format)
    results = of_vectors.numpy(), of_gradient.numpy()
    _second(*_arrays(vectors, gradient, cotangent), *_terms(indices, coefficients), *results)
    return of_vectors, of_gradient


def _arrays(*tensors: Tensor):
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


def _terms(indices: Sequence[int], coefficients: Sequence[float]):
    return np.array(indices, dtype=np.int64).reshape(-1, 3), np.array(coefficients, dtype=np.float64)


@njit(cache=True, fastmath=_FASTMATH)
def _directions(vectors, directions, inverse_lengths):
    """Unit vectors [3, edges] and inverse lengths [edges], zero for a zero vector and beyond the last one."""
    for edge in range(len(inverse_lengths)):
        square = vectors.dtype.type(0)
        if edge < len(vectors):
            square = vectors[edge, 0] ** 2 + vectors[edge, 1] ** 2 + vectors[edge, 2] ** 2
        inverse = 1 / np.sqrt(square) if square != 0 else vectors.dtype.type(0)
        inverse_lengths[edge] = inverse
        for axis in range(3):
            directions[axis, edge] = vectors[edge, axis] * inverse if edge < len(vectors) else 0


@njit(cache=True, fastmath=_FASTMATH)
def _raise(directions, indices, coefficients, rows):
    """Solid harmonics [components, edges] of directions [3, edges]."""
    rows[0] = 1
    rows[1:] = 0
    for term in range(len(coefficients)):
        factor = rows.dtype.type(coefficients[term])
        row, lower, axis = rows[indices[term, 0]], rows[indices[term, 1]], directions[indices[term, 2]]
        for edge in range(_TILE):
            row[edge] += factor * lower[edge] * axis[edge]


@njit(cache=True, fastmath=_FASTMATH)
def _lower(gradient, rows, indices, coefficients, result):
    """Gradient of `<gradient, solid harmonics>` with respect to the directions, [3, edges]."""
    result[:] = 0
    for term in range(len(coefficients)):
        upper = indices[term, 0]
        degree = int(np.sqrt(upper))
        factor = rows.dtype.type(degree * coefficients[term])
        axis, given, lower = result[indices[term, 2]], gradient[upper], rows[indices[term, 1]]
        for edge in range(_TILE):
            axis[edge] += factor * given[edge] * lower[edge]


@njit(cache=True)
def _transposed(matrix, result):
    """Rows of a matrix as columns, zero beyond the last one."""
    result[:] = 0
    for row in range(len(matrix)):
        for column in range(matrix.shape[1]):
            result[column, row] = matrix[row, column]


@njit(cache=True, parallel=True, fastmath=_FASTMATH)
def _values(vectors, indices, coefficients, result):
    for tile in prange((len(vectors) + _TILE - 1) // _TILE):
        begin, end = tile * _TILE, min((tile + 1) * _TILE, len(vectors))
        directions, inverse_lengths = np.empty((3, _TILE), vectors.dtype), np.empty(_TILE, vectors.dtype)
        rows = np.empty((result.shape[1], _TILE), vectors.dtype)
        _directions(vectors[begin:end], directions, inverse_lengths)
        _raise(directions, indices, coefficients, rows)
        for edge in range(begin, end):
            for component in range(result.shape[1]):
                result[edge, component] = rows[component, edge - begin]


@njit(cache=True, parallel=True, fastmath=_FASTMATH)
def _backward(vectors, gradient, indices, coefficients, result):
    for tile in prange((len(vectors) + _TILE - 1) // _TILE):
        begin, end = tile * _TILE, min((tile + 1) * _TILE, len(vectors))
        directions, inverse_lengths = np.empty((3, _TILE), vectors.dtype), np.empty(_TILE, vectors.dtype)
        rows, given = np.empty((2, gradient.shape[1], _TILE), vectors.dtype)
        lowered = np.empty((3, _TILE), vectors.dtype)
        _directions(vectors[begin:end], directions, inverse_lengths)
        _raise(directions, indices, coefficients, rows)
        _transposed(gradient[begin:end], given)
        _lower(given, rows, indices, coefficients, lowered)
        for edge in range(begin, end):
            u, h = directions[:, edge - begin], lowered[:, edge - begin]
            along = u[0] * h[0] + u[1] * h[1] + u[2] * h[2]
            for axis in range(3):
                result[edge, axis] = (h[axis] - u[axis] * along) * inverse_lengths[edge - begin]


@njit(cache=True, parallel=True, fastmath=_FASTMATH)
def _second(vectors, gradient, cotangent, indices, coefficients, of_vectors, of_gradient):
    """The Hessian is symmetric, so that its product with the cotangent is the change of `_backward` along it."""
    for tile in prange((len(vectors) + _TILE - 1) // _TILE):
        begin, end = tile * _TILE, min((tile + 1) * _TILE, len(vectors))
        directions, inverse_lengths = np.empty((3, _TILE), vectors.dtype), np.empty(_TILE, vectors.dtype)
        turning = np.zeros((3, _TILE), vectors.dtype)
        rows, changes, given = np.empty((3, gradient.shape[1], _TILE), vectors.dtype)
        lowered, change = np.empty((2, 3, _TILE), vectors.dtype)
        _directions(vectors[begin:end], directions, inverse_lengths)
        for edge in range(end - begin):
            u, w = directions[:, edge], cotangent[begin + edge]
            along = u[0] * w[0] + u[1] * w[1] + u[2] * w[2]
            for axis in range(3):
                turning[axis, edge] = (w[axis] - u[axis] * along) * inverse_lengths[edge]
        _raise(directions, indices, coefficients, rows)
        _change(turning, rows, indices, coefficients, changes)
        _transposed(gradient[begin:end], given)
        _lower(given, rows, indices, coefficients, lowered)
        _lower(given, changes, indices, coefficients, change)
        for edge in range(end - begin):
            inverse = inverse_lengths[edge]
            u, h, w = directions[:, edge], lowered[:, edge], cotangent[begin + edge]
            du, dh = turning[:, edge], change[:, edge]
            along = u[0] * h[0] + u[1] * h[1] + u[2] * h[2]
            stretch = -(u[0] * w[0] + u[1] * w[1] + u[2] * w[2]) * inverse * inverse
            moved = 0 * along
            for axis in range(3):
                moved += du[axis] * h[axis] + u[axis] * dh[axis]
            for axis in range(3):
                turned = (dh[axis] - du[axis] * along - u[axis] * moved) * inverse
                of_vectors[begin + edge, axis] = turned + (h[axis] - u[axis] * along) * stretch
            for component in range(gradient.shape[1]):
                of_gradient[begin + edge, component] = changes[component, edge]


@njit(cache=True, fastmath=_FASTMATH)
def _change(turning, rows, indices, coefficients, changes):
    """Change of the solid harmonics as the directions turn, [components, edges]."""
    changes[:] = 0
    for term in range(len(coefficients)):
        upper = indices[term, 0]
        degree = int(np.sqrt(upper))
        factor = rows.dtype.type(degree * coefficients[term])
        row, lower, axis = changes[upper], rows[indices[term, 1]], turning[indices[term, 2]]
        for edge in range(_TILE):
            row[edge] += factor * lower[edge] * axis[edge]
