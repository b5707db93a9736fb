"""Coefficients of the polynomials that make the error function and the exponential function.

    erfc(x) = exp(-x^2) p(y) / (1 + 2x),   y = (x - k) / (x + k),

for x >= 0, with a polynomial p of degree 22 in double precision (M. M. Shepherd and J. G. Laframboise, Math. Comp. 36,
249 (1981), who give k = 3.75). Coefficients are those of Chebyshev series, found from values at the nodes.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

_Numbers = NDArray[np.float64]
CENTRE = 3.75
# In single and in double precision.
_DEGREES = (11, 22)
# Of the exponential function of |r| <= ln(2) / 2, after 1 + r, divided by the square of r.
_EXPONENTIAL_DEGREES = (4, 9)
_NODES = 256


@cache
def erfc_coefficients(double: bool) -> tuple[float, ...]:
    """Of (1 + 2x) exp(x^2) erfc(x) as a polynomial in y, the constant first."""

    def values(y: _Numbers) -> _Numbers:
        x = CENTRE * (1 + y) / (1 - y)
        return (1 + 2 * x) * np.array([_scaled_erfc(each) for each in x.tolist()])

    return _fitted(values, _DEGREES[double])


@cache
def exponential_coefficients(double: bool) -> tuple[float, ...]:
    """Of (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2, the constant first."""
    reach = math.log(2) / 2

    def values(place: _Numbers) -> _Numbers:
        r = reach * place
        total = np.zeros_like(r)
        for order in reversed(range(2, 20)):
            total = total * r + 1 / math.factorial(order)
        return total

    return tuple(value / reach**order for order, value in enumerate(_fitted(values, _EXPONENTIAL_DEGREES[double])))


def _scaled_erfc(x: float) -> float:
    """exp(x^2) erfc(x) to the last place or two, which functions of libraries miss by ten."""
    if x > 20:
        # The asymptotic series; its next term is below 1e-17.
        terms, term = 1.0, 1.0
        for order in range(1, 8):
            term *= -(2 * order - 1) / (2 * x * x)
            terms += term
        return terms / (x * math.sqrt(math.pi))
    square = Fraction(x) ** 2
    rounded = float(square)
    return math.erfc(x) * math.exp(rounded) * (1 + float(square - Fraction(rounded)))


def _fitted(values: Callable[[_Numbers], _Numbers], degree: int) -> tuple[float, ...]:
    """Coefficients of a truncated Chebyshev series on [-1, 1] as those of powers."""
    # Angles in units that make them integers, whose multiples are exact.
    units = 2 * np.arange(_NODES) + 1
    cosines = np.cos(np.pi / (2 * _NODES) * (np.arange(degree + 1)[:, None] * units % (4 * _NODES)))
    series = 2 / _NODES * (cosines @ values(np.cos(np.pi / (2 * _NODES) * units)))
    series[0] /= 2
    return tuple(chebyshev.cheb2poly(series).tolist())
