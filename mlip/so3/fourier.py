"""Spherical harmonics as finite Fourier series on the torus.

With θ from the y axis and φ from z towards x, every harmonic is a trigonometric polynomial in both angles. Continued to
0 ≤ θ < 2π it lives on a torus on which (θ, φ) and (2π − θ, φ + π) are one direction, and a product of harmonics is a
product of series (Luo et al. 2024, arXiv 2401.10216). Rotating the polar axis into the x-z plane and back expresses
the dependence on θ by Wigner's d at π/2 (Risbo 1996, J. Geod. 70, 383): with Δ = d^l(π/2) and m ≥ 0,

    Y_lm(θ, φ) = √((2l+1)/4π) Σ_u (−i)^m Δ_mu Δ_0u e^{iuθ} · {1, √2 cos mφ, √2 sin mφ},

the cosine for order m > 0 and the sine for order −m. Terms with l + u odd vanish.
"""

from fractions import Fraction
from functools import cache
from math import comb, factorial, pi, sqrt

import numpy as np

from mlip.errors import ConfigError
from mlip.so3.arrays import read_only


@cache
def fourier_coefficients(l_max: int) -> np.ndarray:
    """Coefficients c of the orthonormal real harmonics, Y_lm(θ, φ) = Σ_uv c[l² + l + m, u, v] e^{i(uθ + vφ)}.

    They are computed from exact integers, vanish unless v = ±m, and c[−u, −v] is the complex conjugate of c[u, v].

    Returns:
        complex128 `[(l_max + 1)², 2 l_max + 1, 2 l_max + 1]`, cached and read-only; u and v ascend from −l_max.

    Raises:
        ConfigError: l_max is negative.
    """
    _check(l_max)
    table = np.zeros(((l_max + 1) ** 2, 2 * l_max + 1, 2 * l_max + 1), dtype=np.complex128)
    for degree in range(l_max + 1):
        middle = degree**2 + degree
        frequencies = slice(l_max - degree, l_max + degree + 1)
        table[middle, frequencies, l_max] = _polar_series(degree, 0)
        for m in range(1, degree + 1):
            half = sqrt(0.5) * _polar_series(degree, m)
            for sign in (1, -1):
                table[middle + m, frequencies, l_max + sign * m] = half
                table[middle - m, frequencies, l_max + sign * m] = -1j * sign * half
    return read_only(table)


@cache
def fourier_projection(l_max: int, degree: int) -> np.ndarray:
    """Integrals over the sphere P[l² + l + m, u, v] = ∫ e^{i(uθ + vφ)} Y_lm(θ, φ) sin θ dθ dφ, 0 ≤ θ ≤ π.

    They take the Fourier coefficients of a function on the torus to its coefficients in harmonics. Frequencies |v|
    above l_max do not contribute. From ∫ e^{ikθ} sin θ dθ = 2/(1 − k²) for even k, ±iπ/2 for k = ±1, else 0.

    Args:
        l_max: Highest degree of the harmonics.
        degree: Highest frequency u of the function, the sum of the degrees of its factors.

    Returns:
        complex128 `[(l_max + 1)², 2 degree + 1, 2 l_max + 1]`, cached and read-only; u ascends from −degree and v from
        −l_max.

    Raises:
        ConfigError: l_max or degree is negative.
    """
    _check(l_max)
    _check(degree)
    sums = np.arange(-degree, degree + 1)[:, None] + np.arange(-l_max, l_max + 1)
    integrals = np.zeros(sums.shape, dtype=np.complex128)
    even = sums % 2 == 0
    integrals[even] = 2 / (1 - sums[even] ** 2)
    single = np.abs(sums) == 1
    integrals[single] = 0.5j * pi * sums[single]
    # ∫ e^{i(v + v')φ} dφ = 2π where v' = −v.
    opposite = fourier_coefficients(l_max)[:, :, ::-1]
    return read_only(2 * pi * np.einsum("uw,nwv->nuv", integrals, opposite))


def _polar_series(degree: int, m: int) -> np.ndarray:
    """√((2l+1)/4π) (−i)^m Δ_mu Δ_0u for u = −l … l, m ≥ 0."""
    scale = sqrt((2 * degree + 1) / (4 * pi) * factorial(degree + m) * factorial(degree - m))
    series = [
        Fraction(
            factorial(degree) * _signed_sum(degree, m, u) * _signed_sum(degree, 0, u),
            4**degree * factorial(degree + u) * factorial(degree - u),
        )
        for u in range(-degree, degree + 1)
    ]
    return (-1j) ** m * scale * np.array(series, dtype=np.float64)


def _signed_sum(degree: int, m: int, u: int) -> int:
    """2^l √((l+u)!(l−u)!/((l+m)!(l−m)!)) d^l_mu(π/2), an integer (Wigner's sum at cos β/2 = sin β/2 = 1/√2)."""
    return sum(
        (-1) ** (m - u + k) * comb(degree + u, k) * comb(degree - u, degree - m - k)
        for k in range(max(0, u - m), min(degree + u, degree - m) + 1)
    )


def _check(degree: int) -> None:
    if degree < 0:
        raise ConfigError(f"The degree of a Fourier series is {degree}: choose 0 or more.")
