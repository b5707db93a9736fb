# mypy: disable-error-code="no-untyped-def"
"""The radial table in Numba.

Every number is computed by one thread in one order, so that results do not depend on the number of threads.
"""

import math

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from mlip_kernels.backends import match_torch_threads

# Sums may be taken in another order; that numbers are finite is not assumed.
_FASTMATH = {"contract", "reassoc", "nsz"}
# Columns that a thread treats at a time where rows are added up: a table's part stays in the second-level cache.
_COLUMNS = 64


def interpolate(coefficients: Tensor, distances: Tensor, origin: float, spacing: float, order: int) -> Tensor:
    """The function of `reference.interpolate`."""
    match_torch_threads(coefficients.shape[1] * len(distances))
    result = coefficients.new_empty(len(distances), coefficients.shape[1])
    arrays = _arrays(coefficients, distances)
    _interpolate(*arrays, origin, spacing, order, result.numpy())
    return result


def project(gradient: Tensor, distances: Tensor, origin: float, spacing: float, knots: int, order: int) -> Tensor:
    """The transpose of `interpolate`: [edges, columns] to [knots, columns]."""
    match_torch_threads(gradient.numel())
    result = gradient.new_zeros(knots, gradient.shape[1])
    _project(*_arrays(gradient, distances), origin, spacing, order, result.numpy())
    return result


def dot(gradient: Tensor, coefficients: Tensor, distances: Tensor, origin: float, spacing: float, order: int) -> Tensor:
    """Sum over columns of the gradient times `interpolate`, [edges]."""
    match_torch_threads(gradient.numel())
    result = torch.empty_like(distances, memory_format=torch.contiguous_format)
    arrays = _arrays(gradient, coefficients, distances)
    _dot(*arrays, origin, spacing, order, result.numpy())
    return result


def solve(right: Tensor) -> Tensor:
    """Solve (x[k-1] + 4 x[k] + x[k+1]) / 6 = right[k], x zero beyond the ends, for float64 columns [rows, columns]."""
    match_torch_threads(right.numel())
    result = torch.empty_like(right, memory_format=torch.contiguous_format)
    _solve(*_arrays(right), result.numpy())
    return result


def _arrays(*tensors: Tensor):
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


@njit(cache=True)
def _basis(distance, origin, spacing, knots, order):
    """First of four knots, and the derivatives of their B-splines, which are zero outside of the grid."""
    place = (distance - origin) / spacing
    if not (place >= 1.0 and place < knots - 2):
        outside = place if math.isnan(place) else 0.0
        return 0, outside, outside, outside, outside
    cell = int(place)
    t = place - cell
    b0 = b1 = b2 = b3 = 0.0
    if order == 0:
        b0, b1 = (1 - t) ** 3 / 6, ((3 * t - 6) * t * t + 4) / 6
        b2, b3 = (((-3 * t + 3) * t + 3) * t + 1) / 6, t**3 / 6
    elif order == 1:
        b0, b1 = -((1 - t) ** 2) / 2, (3 * t - 4) * t / 2
        b2, b3 = ((-3 * t + 2) * t + 1) / 2, t * t / 2
    elif order == 2:
        b0, b1, b2, b3 = 1 - t, 3 * t - 2, 1 - 3 * t, t
    elif order == 3:
        b0, b1, b2, b3 = -1.0, 3.0, -3.0, 1.0
    scale = spacing ** (-order)
    return cell - 1, scale * b0, scale * b1, scale * b2, scale * b3


@njit(cache=True, parallel=True, fastmath=_FASTMATH)
def _interpolate(coefficients, distances, origin, spacing, order, result):
    knots, columns = coefficients.shape
    real = coefficients.dtype.type
    for edge in prange(len(distances)):
        first, b0, b1, b2, b3 = _basis(distances[edge], origin, spacing, knots, order)
        b0, b1, b2, b3 = real(b0), real(b1), real(b2), real(b3)
        for column in range(columns):
            result[edge, column] = (
                b0 * coefficients[first, column]
                + b1 * coefficients[first + 1, column]
                + b2 * coefficients[first + 2, column]
                + b3 * coefficients[first + 3, column]
            )


@njit(cache=True, parallel=True, fastmath=_FASTMATH)
def _project(gradient, distances, origin, spacing, order, result):
    knots, columns = result.shape
    real = gradient.dtype.type
    for block in prange((columns + _COLUMNS - 1) // _COLUMNS):
        begin, end = block * _COLUMNS, min((block + 1) * _COLUMNS, columns)
        for edge in range(len(distances)):
            first, b0, b1, b2, b3 = _basis(distances[edge], origin, spacing, knots, order)
            splines = (real(b0), real(b1), real(b2), real(b3))
            values = gradient[edge, begin:end]
            # One row at a time, since the compiler could not tell that several do not overlap.
            for number in range(4):
                row = result[first + number, begin:end]
                for column in range(len(row)):
                    row[column] += splines[number] * values[column]


@njit(cache=True, parallel=True, fastmath=_FASTMATH)
def _dot(gradient, coefficients, distances, origin, spacing, order, result):
    knots, columns = coefficients.shape
    real = coefficients.dtype.type
    for edge in prange(len(distances)):
        first, b0, b1, b2, b3 = _basis(distances[edge], origin, spacing, knots, order)
        b0, b1, b2, b3 = real(b0), real(b1), real(b2), real(b3)
        total = real(0)
        for column in range(columns):
            total += gradient[edge, column] * (
                b0 * coefficients[first, column]
                + b1 * coefficients[first + 1, column]
                + b2 * coefficients[first + 2, column]
                + b3 * coefficients[first + 3, column]
            )
        result[edge] = total


@njit(cache=True, parallel=True)
def _solve(right, result):
    """Thomas' elimination, which needs no pivots where the diagonal dominates."""
    rows, columns = right.shape
    for block in prange((columns + _COLUMNS - 1) // _COLUMNS):
        given = right[:, block * _COLUMNS : (block + 1) * _COLUMNS]
        found = result[:, block * _COLUMNS : (block + 1) * _COLUMNS]
        pivots = np.empty(rows)
        pivots[0] = 0.25
        for column in range(given.shape[1]):
            found[0, column] = 1.5 * given[0, column]
        for row in range(1, rows):
            pivots[row] = 1.0 / (4.0 - pivots[row - 1])
            for column in range(given.shape[1]):
                found[row, column] = pivots[row] * (6.0 * given[row, column] - found[row - 1, column])
        for row in range(rows - 2, -1, -1):
            for column in range(given.shape[1]):
                found[row, column] -= pivots[row] * found[row + 1, column]
