"""Sums of Gaussians for the long-range kernel where some directions are periodic and others are open.

As in `quadrature`, erf(αr)/r = (2/√π) ∫₀^α exp(−t²r²) dt by the rule of Gauss and Legendre in s, t = (3/R) sinh s.
Summed over images along the periodic directions, a Gaussian becomes, mode by mode (Poisson's summation formula),

    Σ_images exp(−t²r²) = Σ_k (√π/t)^p / measure · exp(−k²/4t²) · exp(ik·r_periodic) · exp(−t²r_open²)

and the number of nodes is the least for which all modes are right.
"""

import math

import numpy as np
from numpy.typing import NDArray

from mlip.electrostatics.quadrature import gaussian_rule
from mlip.errors import ConfigError

_MOST_NODES = 120
_REFERENCE_NODES = 240
_SAMPLES = 48


def _amplitudes(exponents: NDArray[np.float64], squares: NDArray[np.float64], periodic: int) -> NDArray[np.float64]:
    """(√π/t)^p exp(−k²/4t²) for exponents t [nodes] and squared reciprocal vectors k² [modes], [modes, nodes]."""
    decay = np.exp(-np.divide.outer(squares, 4 * exponents**2))
    amplitudes: NDArray[np.float64] = (math.sqrt(math.pi) / exponents) ** periodic * decay
    return amplitudes


def mixed_gaussian_sum(
    alpha: float, radius: float, squares: NDArray[np.float64], periodic: int, tolerance: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exponents t and weights w [nodes] that serve all modes with k² ≠ 0, and in wires the mode k = 0 too.

    Args:
        alpha: Range separation, 1/Å.
        radius: Largest distance along open directions, Å.
        squares: Some k² that span the modes in use, the smallest one among them, 1/Å² [modes].
        periodic: Number of periodic directions, 1 or 2.
        tolerance: Error of a mode at any distance, relative to the largest mode, or to k = 0 where that is larger.

    Raises:
        ConfigError: 120 nodes are too few.
    """
    # Below the smallest reciprocal vector, exponents matter to the mode k = 0 alone.
    reach = max(radius, math.pi / math.sqrt(squares.min()))
    distances = np.linspace(0.0, radius, _SAMPLES)
    exact = _modes(*gaussian_rule(alpha, reach, _REFERENCE_NODES), squares, distances, periodic)
    # Where the cutoff is much larger than the cell, modes are nothing beside k = 0.
    scale = max(np.abs(exact[:-1]).max(), 2 * alpha * (math.sqrt(math.pi) / alpha) ** periodic / math.sqrt(math.pi))
    for count in range(6, _MOST_NODES):
        exponents, weights = gaussian_rule(alpha, reach, count)
        error = np.abs(_modes(exponents, weights, squares, distances, periodic) - exact).max()
        if error <= tolerance * scale:
            return exponents, weights
    raise ConfigError(
        f"{_MOST_NODES} Gaussians do not reach the tolerance {tolerance:.1e} in a box of {radius:g} Å with a range "
        f"separation of {alpha:g} 1/Å: raise the tolerance or the cutoff."
    )


def _modes(
    exponents: NDArray[np.float64],
    weights: NDArray[np.float64],
    squares: NDArray[np.float64],
    distances: NDArray[np.float64],
    periodic: int,
) -> NDArray[np.float64]:
    """Modes as functions of the distance, and in the last row that of k = 0 up to its constant, [modes + 1, samples].

    The last row is zero where two directions are periodic: there that mode has a closed form.
    """
    gaussians = np.exp(-np.square(np.multiply.outer(exponents, distances)))
    modes = (_amplitudes(exponents, squares, periodic) * weights) @ gaussians
    zero = np.zeros_like(distances)
    if periodic == 1:
        zero = (math.sqrt(math.pi) * weights / exponents) @ (gaussians - 1)
    return np.vstack([modes, zero])
