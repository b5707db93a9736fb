"""Emits the complementary error function.

    erfc(x) = exp(-x^2) p(y) / (1 + 2x),   y = (x - k) / (x + k),

for x >= 0, with a polynomial p of degree 22 in double precision (M. M. Shepherd and J. G. Laframboise, Math. Comp. 36,
249 (1981), who give k = 3.75). Its coefficients are those of a Chebyshev series, found from values at the nodes.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import numpy as np
from llvmlite import ir
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from mlip_kernels.coulomb_pairs.cpu_vectors import reciprocal
from mlip_kernels.simd.code import Vector

_Numbers = NDArray[np.float64]
_CENTRE = 3.75
_DEGREE = {"float32": 11, "float64": 22}
# Of the exponential function of |r| <= ln(2) / 2, after 1 + r, divided by the square of r.
_EXPONENTIAL_DEGREE = {"float32": 4, "float64": 9}
_NODES = 256
_MANTISSA_BITS = {"float32": 23, "float64": 52}
# Beyond, exp(-x) is no normal number.
_LARGEST = {"float32": 87.0, "float64": 708.0}
# ln(2) in two parts, of which the first has so few digits that its product with a whole number is exact.
_LN2_HIGH, _LN2_LOW = 0.693145751953125, 1.4286068203094172321e-06


def erfc(x: Vector) -> tuple[Vector, Vector]:
    """erfc(x) and exp(-x^2) of numbers that are not negative."""
    code = x.code
    square = x * x
    decline = exponential_decline(square)
    # What rounding took from the square, which the exponential function would make a relative error.
    rest = code.fused(x, x, -square)
    decline = code.fused(-decline, rest, decline)
    above, double = x + _CENTRE, code.fused(x, code.broadcast(2.0), code.broadcast(1.0))
    inverse = reciprocal(above * double)
    place = code.fused(double * inverse, code.broadcast(-2 * _CENTRE), code.broadcast(1.0))
    return decline * (above * inverse * polynomial(place, erfc_coefficients(_DEGREE[code.real]))), decline


def exponential_decline(x: Vector) -> Vector:
    """exp(-x) of numbers that are not negative."""
    code = x.code
    builder = code.builder
    limit = code.broadcast(_LARGEST[code.real])
    limited = Vector(code, builder.select(builder.fcmp_ordered("<", x.value, limit.value), x.value, limit.value))
    # In the sum with such a number the whole part of the other stands in the last bits.
    bits = _MANTISSA_BITS[code.real]
    shift = code.broadcast(1.5 * 2.0**bits)
    shifted = code.fused(limited, code.broadcast(-1.0 / math.log(2.0)), shift)
    whole = shifted - shift
    rest = code.fused(whole, code.broadcast(-_LN2_HIGH), -limited)
    rest = code.fused(whole, code.broadcast(-_LN2_LOW), rest)
    series = polynomial(rest, exponential_coefficients(_EXPONENTIAL_DEGREE[code.real]))
    total = code.fused(rest * rest, series, rest + 1.0)
    integers = ir.VectorType(ir.IntType(32 if code.real == "float32" else 64), code.lanes)
    power = builder.shl(builder.bitcast(shifted.value, integers), ir.Constant(integers, [bits] * code.lanes))
    return Vector(code, builder.bitcast(builder.add(builder.bitcast(total.value, integers), power), code.vector_type))


def polynomial(x: Vector, coefficients: tuple[float, ...]) -> Vector:
    """Even and odd powers apart, as two sums that do not wait for one another."""
    code = x.code
    square = x * x
    parts = []
    for powers in (coefficients[0::2], coefficients[1::2]):
        total = code.broadcast(powers[-1])
        for coefficient in reversed(powers[:-1]):
            total = code.fused(total, square, code.broadcast(coefficient))
        parts.append(total)
    return code.fused(parts[1], x, parts[0])


@cache
def erfc_coefficients(degree: int) -> tuple[float, ...]:
    """Of (1 + 2x) exp(x^2) erfc(x) as a polynomial in y, the constant first."""

    def values(y: _Numbers) -> _Numbers:
        x = _CENTRE * (1 + y) / (1 - y)
        return (1 + 2 * x) * np.array([_scaled_erfc(each) for each in x.tolist()])

    return _fitted(values, degree)


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


@cache
def exponential_coefficients(degree: int) -> tuple[float, ...]:
    """Of (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2, the constant first."""
    reach = math.log(2) / 2

    def values(place: _Numbers) -> _Numbers:
        r = reach * place
        total = np.zeros_like(r)
        for order in reversed(range(2, 20)):
            total = total * r + 1 / math.factorial(order)
        return total

    return tuple(value / reach**order for order, value in enumerate(_fitted(values, degree)))


def _fitted(values: Callable[[_Numbers], _Numbers], degree: int) -> tuple[float, ...]:
    """Coefficients of a truncated Chebyshev series on [-1, 1] as those of powers."""
    # Angles in units that make them integers, whose multiples are exact.
    units = 2 * np.arange(_NODES) + 1
    cosines = np.cos(np.pi / (2 * _NODES) * (np.arange(degree + 1)[:, None] * units % (4 * _NODES)))
    series = 2 / _NODES * (cosines @ values(np.cos(np.pi / (2 * _NODES) * units)))
    series[0] /= 2
    return tuple(chebyshev.cheb2poly(series).tolist())
