"""Coupling tensors of three irreducible representations of SO(3): Wigner 3j, Gaunt and Poisson bracket.

All are in the real basis with the polar axis along y and components ordered m = −l … l, float64, shape
`[2 l1 + 1, 2 l2 + 1, 2 l3 + 1]`. The returned arrays are cached and read-only.
"""

from functools import cache
from math import comb, copysign, factorial, pi, sqrt

import numpy as np

from mlip.errors import ConfigError
from mlip.so3.arrays import read_only


@cache
def wigner_3j(l1: int, l2: int, l3: int) -> np.ndarray:
    """Invariant tensor of l1 ⊗ l2 ⊗ l3 with unit Frobenius norm, shape `[2 l1 + 1, 2 l2 + 1, 2 l3 + 1]`.

    It is the Clebsch-Gordan coefficient ⟨l1 m1 l2 m2 | l3 m3⟩ / √(2 l3 + 1) of the Condon-Shortley phase, from
    Racah's formula in exact integer arithmetic, taken to the real basis; the sign is that of `e3nn.o3.wigner_3j`.

    Raises:
        ConfigError: a degree is negative, or the three do not satisfy the triangle inequality.
    """
    _check_triangle(l1, l2, l3)
    tensor = _clebsch_gordan(l1, l2, l3).astype(np.complex128)
    tensor = np.einsum("abc,ai->ibc", tensor, _complex_from_real(l1))
    tensor = np.einsum("ibc,bj->ijc", tensor, _complex_from_real(l2))
    tensor = np.einsum("ijc,ck->ijk", tensor, _complex_from_real(l3).conj())
    return read_only(tensor.real)


@cache
def gaunt(l1: int, l2: int, l3: int) -> np.ndarray:
    """Integral ∫ Y1 Y2 Y3 over the unit sphere, of orthonormal real harmonics; zero where l1 + l2 + l3 is odd.

    The m = 0 harmonics are positive at the pole and their integral is a square times √(Π(2l+1)/4π), so that the
    component m1 = m2 = m3 = 0 of the 3j tensor carries both the size and the sign.

    Raises:
        ConfigError: a degree is negative, or the three do not satisfy the triangle inequality.
    """
    coupling = wigner_3j(l1, l2, l3)
    scale = sqrt((2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1) / (4 * pi))
    if (l1 + l2 + l3) % 2:
        return read_only(np.zeros_like(coupling))
    return read_only(scale * coupling[l1, l2, l3] * coupling)


@cache
def bracket(l1: int, l2: int, l3: int) -> np.ndarray:
    """Integral ∫ r̂·(∇Y1 × ∇Y2) Y3 over the unit sphere, of orthonormal real harmonics; zero where the sum is even.

    By spin-weighted harmonics it is √(Π(2l+1)/4π) · √(l1(l1+1) l2(l2+1)) · (l1 l2 l3; 1 −1 0) times the 3j tensor.
    Its component (m1, m2, m3) = (1, −1, 0) is never negative, so that this component of the real 3j tensor, which is
    ±(l1 l2 l3; 1 −1 0), carries both the size and the sign.

    Raises:
        ConfigError: a degree is negative, or the three do not satisfy the triangle inequality.
    """
    coupling = wigner_3j(l1, l2, l3)
    if (l1 + l2 + l3) % 2 == 0:
        return read_only(np.zeros_like(coupling))
    scale = sqrt((2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1) / (4 * pi) * l1 * (l1 + 1) * l2 * (l2 + 1))
    return read_only(scale * coupling[l1 + 1, l2 - 1, l3] * coupling)


@cache
def matrix_coupling(l1: int, l2: int, l3: int, spin: int) -> np.ndarray:
    """Coupling of the product of (2 spin + 1)² matrices: `tr(B3^T B1 B2)` for the real orthonormal bases B of degree l.

    `B_lm = √(2l+1) w3j(spin, spin, l)[:, :, m]` spans the matrices on which rotations act as degree l, 0 ≤ l ≤ 2 spin.
    The result is the 3j tensor times (−1)^l3 √(Π(2l+1)) {l1 l2 l3; spin spin spin}, Wigner's 6j symbol, which vanishes
    for a few triples only: sums l1 + l2 + l3 that are even come from the anticommutator, odd ones from the commutator.

    Raises:
        ConfigError: a degree is negative or above 2 spin, or the three do not satisfy the triangle inequality.
    """
    _check_triangle(l1, l2, l3)
    if max(l1, l2, l3) > 2 * spin:
        raise ConfigError(
            f"Matrices of spin {spin} hold degrees up to {2 * spin} and not {max(l1, l2, l3)}: "
            f"choose spin {(max(l1, l2, l3) + 1) // 2} or more."
        )
    first, second, third = (sqrt(2 * degree + 1) * wigner_3j(spin, spin, degree) for degree in (l1, l2, l3))
    block = np.einsum("abi,bcj,ack->ijk", first, second, third, optimize=True)
    coupling = wigner_3j(l1, l2, l3)
    return read_only(np.vdot(block, coupling) * coupling)


def _check_triangle(l1: int, l2: int, l3: int) -> None:
    if min(l1, l2, l3) < 0:
        raise ConfigError(f"Degrees ({l1}, {l2}, {l3}) cannot be coupled: choose degrees that are not negative.")
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ConfigError(
            f"Degrees ({l1}, {l2}, {l3}) cannot be coupled: choose the third between {abs(l1 - l2)} and {l1 + l2}."
        )


def _clebsch_gordan(l1: int, l2: int, l3: int) -> np.ndarray:
    """Complex-basis ⟨l1 m1 l2 m2 | l3 m3⟩ / √(2 l3 + 1); each entry is the root of a ratio of exact integers."""
    a, b, c = l1 + l2 - l3, l1 - l2 + l3, -l1 + l2 + l3
    denominator = factorial(l1 + l2 + l3 + 1) * factorial(a) * factorial(b) * factorial(c)
    tensor = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -l3 - m1), min(l2, l3 - m1) + 1):
            m3 = m1 + m2
            total = sum(
                (-1) ** k * comb(a, k) * comb(b, l1 - m1 - k) * comb(c, l2 + m2 - k)
                for k in range(min(a, l1 - m1, l2 + m2) + 1)
            )
            numerator = total * total
            for degree, order in ((l1, m1), (l2, m2), (l3, m3)):
                numerator *= factorial(degree + order) * factorial(degree - order)
            tensor[l1 + m1, l2 + m2, l3 + m3] = copysign(sqrt(numerator / denominator), total)
    return tensor


def _complex_from_real(degree: int) -> np.ndarray:
    """Unitary matrix [complex m, real m]; the phase (−i)^l makes every 3j tensor real."""
    matrix = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=np.complex128)
    matrix[degree, degree] = 1.0
    for m in range(1, degree + 1):
        plus, minus = degree + m, degree - m
        matrix[plus, plus] = (-1) ** m * sqrt(0.5)
        matrix[minus, plus] = sqrt(0.5)
        matrix[plus, minus] = 1j * (-1) ** m * sqrt(0.5)
        matrix[minus, minus] = -1j * sqrt(0.5)
    return (-1j) ** degree * matrix
