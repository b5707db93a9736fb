"""Functions of vectors: exponential, logistic function, SiLU and hyperbolic tangent with their derivatives."""

import math

from llvmlite import ir

from mlip_kernels.simd.code import Vector

# The exponential of the remainder, |x| <= ln(2) / 2, by its Taylor series up to this order: the next term is below
# 1e-8 and 1e-17 of the sum.
_ORDER = {"float32": 7, "float64": 13}
_LARGEST = {"float32": 87.0, "float64": 708.0}
_MANTISSA_BITS = {"float32": 23, "float64": 52}
_EXPONENT_BIAS = {"float32": 127, "float64": 1023}
# ln(2) in two parts, the first with so few digits that its product with a whole number is exact, the second with those
# that ln(2) has not in double precision.
_LN2_HIGH = 0.693145751953125
_LN2_LOW = 1.4286068203094172321e-06


def exponential(x: Vector) -> Vector:
    """exp(x), to a few units in the last place; x is limited to the range whose result is a normal number."""
    code = x.code
    builder = code.builder
    limit = code.broadcast(_LARGEST[code.real]).value
    low = builder.fneg(limit)
    value = builder.select(builder.fcmp_ordered(">", x.value, limit), limit, x.value)
    limited = Vector(code, builder.select(builder.fcmp_ordered("<", value, low), low, value))
    scaled = limited * (1.0 / math.log(2.0))
    rounding = code.broadcast(0.5).value
    sign = builder.fcmp_ordered("<", scaled.value, code.broadcast(0.0).value)
    shift = Vector(code, builder.select(sign, builder.fneg(rounding), rounding))
    integer = ir.VectorType(ir.IntType(32 if code.real == "float32" else 64), code.lanes)
    power = builder.fptosi((scaled + shift).value, integer)
    whole = Vector(code, builder.sitofp(power, code.vector_type))
    rest = code.fused(whole, code.broadcast(-_LN2_HIGH), limited)
    rest = code.fused(whole, code.broadcast(-_LN2_LOW), rest)
    order = _ORDER[code.real]
    total = code.broadcast(1.0 / math.factorial(order))
    for term in reversed(range(order)):
        total = code.fused(total, rest, code.broadcast(1.0 / math.factorial(term)))
    bias = ir.Constant(integer, [_EXPONENT_BIAS[code.real]] * code.lanes)
    bits = ir.Constant(integer, [_MANTISSA_BITS[code.real]] * code.lanes)
    factor = builder.bitcast(builder.shl(builder.add(power, bias), bits), code.vector_type)
    return total * Vector(code, factor)


def logistic(x: Vector) -> Vector:
    """1 / (1 + exp(-x))."""
    return 1.0 / (exponential(-x) + 1.0)


def silu(x: Vector) -> tuple[Vector, Vector]:
    """x / (1 + exp(-x)) and its derivative."""
    decline = exponential(-x)
    rate = 1.0 / (decline + 1.0)
    value = x * rate
    # The last factor is 1 - rate, which has lost its digits where x is large.
    return value, rate + value * (decline * rate)


def tanh(x: Vector) -> tuple[Vector, Vector]:
    """The hyperbolic tangent and its derivative."""
    value = 2.0 * logistic(x * 2.0) - 1.0
    return value, 1.0 - value * value
