"""Vectors with a derivative: an emitter of arithmetic on them emits the derivative of what it computes too."""

from dataclasses import dataclass

from mlip_kernels.simd.code import Code, Vector


@dataclass(frozen=True)
class Dual:
    """A vector and its derivative along one direction; None where it does not change."""

    value: Vector
    tangent: Vector | None = None

    def __add__(self, other: "Dual") -> "Dual":
        return Dual(self.value + other.value, _sum(self.tangent, other.tangent))

    def __mul__(self, other: "Dual") -> "Dual":
        first = None if self.tangent is None else self.tangent * other.value
        second = None if other.tangent is None else self.value * other.tangent
        return Dual(self.value * other.value, _sum(first, second))


def fused(code: Code, first: Dual, second: Dual, third: Dual) -> Dual:
    """first * second + third."""
    tangent = third.tangent
    if first.tangent is not None:
        product = first.tangent
        tangent = product * second.value if tangent is None else code.fused(product, second.value, tangent)
    if second.tangent is not None:
        product = second.tangent
        tangent = first.value * product if tangent is None else code.fused(first.value, product, tangent)
    return Dual(code.fused(first.value, second.value, third.value), tangent)


def _sum(first: Vector | None, second: Vector | None) -> Vector | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second
