"""The long-range part of the Coulomb kernel as a short sum of Gaussians, by which it becomes separable.

From erf(αr)/r = (2/√π) ∫₀^α exp(−t²r²) dt. The integrand is widest in t where r is small and narrowest where r is the
diameter R of the system, so that t = (3/R) sinh s spreads nodes evenly over all scales between; in s the rule of
Gauss and Legendre converges geometrically.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from mlip.errors import ConfigError

_MOST_NODES = 200
_SAMPLES = 600  # distances at which the error is measured; it has about as many extrema as there are nodes


def gaussian_sum(alpha: float, radius: float, tolerance: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Exponents t and weights w with erf(αr)/r ≈ Σ_k w_k exp(−t_k² r²) for all 0 ≤ r ≤ radius.

    The least number of nodes is taken whose measured error, relative to erf(αr)/r, is below the tolerance at every
    distance. With lengths in Å, α and t are in 1/Å and so are the weights.

    Args:
        alpha: Range separation α, 1/Å.
        radius: Largest distance, Å.
        tolerance: Largest relative error, between 1e-14 and 0.1.

    Returns:
        t `[nodes]` and w `[nodes]`, float64 on the CPU, t ascending, all positive.

    Raises:
        ConfigError: an argument is not a positive number, the tolerance is out of range, or α · radius is so large
            that 200 nodes do not reach it.
    """
    for name, value in (("alpha", alpha), ("radius", radius)):
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"A sum of Gaussians needs a positive {name}, not {value}.")
    if not 1e-14 < tolerance < 0.1:
        raise ConfigError(f"The tolerance of a sum of Gaussians is {tolerance}: take one between 1e-14 and 0.1.")
    distances = _distances(alpha, radius)
    exact = _kernel(alpha, distances)
    for count in range(2, _MOST_NODES + 1):
        exponents, weights = gaussian_rule(alpha, radius, count)
        approximation = np.exp(-np.square(np.outer(distances, exponents))) @ weights
        if np.abs(approximation / exact - 1).max() <= tolerance:
            return torch.from_numpy(exponents), torch.from_numpy(weights)
    raise ConfigError(
        f"{_MOST_NODES} Gaussians do not reach the tolerance {tolerance} for alpha · radius = {alpha * radius:g}: "
        "raise the tolerance, or lower alpha or the size of the box."
    )


def gaussian_rule(alpha: float, radius: float, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exponents t and weights w [count] of the rule with so many nodes, for distances up to the radius in Å."""
    scale = 3 / radius
    half = math.asinh(alpha / scale) / 2
    nodes, weights = np.polynomial.legendre.leggauss(count)
    s = half * (nodes + 1)
    return scale * np.sinh(s), (2 / math.sqrt(math.pi)) * half * scale * weights * np.cosh(s)


def _distances(alpha: float, radius: float) -> NDArray[np.float64]:
    """From 0 to the radius, even in r below 1/α and in log r above."""
    return np.sinh(np.linspace(0, math.asinh(alpha * radius), _SAMPLES)) / alpha


def _kernel(alpha: float, distances: NDArray[np.float64]) -> NDArray[np.float64]:
    limit = 2 * alpha / math.sqrt(math.pi)
    return np.array([math.erf(alpha * r) / r if r > 0 else limit for r in distances])
