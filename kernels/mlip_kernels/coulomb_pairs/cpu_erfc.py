"""Emits the complementary error function and the exponential function, by the polynomials of `cpu_series`."""

import math

from llvmlite import ir

from mlip_kernels.coulomb_pairs.cpu_series import CENTRE, erfc_coefficients, exponential_coefficients
from mlip_kernels.coulomb_pairs.cpu_vectors import least, reciprocal
from mlip_kernels.simd.code import Vector

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
    above, double = x + CENTRE, code.fused(x, code.broadcast(2.0), code.broadcast(1.0))
    inverse = reciprocal(above * double)
    place = code.fused(double * inverse, code.broadcast(-2 * CENTRE), code.broadcast(1.0))
    return decline * (above * inverse * polynomial(place, erfc_coefficients(code.real == "float64"))), decline


def exponential_decline(x: Vector) -> Vector:
    """exp(-x) of numbers that are not negative."""
    code = x.code
    builder = code.builder
    limited = least(x, _LARGEST[code.real])
    # In the sum with such a number the whole part of the other stands in the last bits.
    bits = _MANTISSA_BITS[code.real]
    shift = code.broadcast(1.5 * 2.0**bits)
    shifted = code.fused(limited, code.broadcast(-1.0 / math.log(2.0)), shift)
    whole = shifted - shift
    rest = code.fused(whole, code.broadcast(-_LN2_HIGH), -limited)
    rest = code.fused(whole, code.broadcast(-_LN2_LOW), rest)
    series = polynomial(rest, exponential_coefficients(code.real == "float64"))
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
