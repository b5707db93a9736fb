"""The basis of an open direction: Chebyshev polynomials, compressed to what sums of Gaussians need (Tucker basis)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mlip.electrostatics.chebyshev import chebyshev_nodes, coefficients_from_values


@dataclass(frozen=True)
class OpenAxis:
    """The basis of an interval, and kernels in it.

    Attributes:
        length: Of the interval, Å.
        projection: Chebyshev coefficients of the basis, float64 [polynomials, rank].
        matrices: exp(−t²(x − x')²) ≈ Σ_ab b_a(x) A_ab b_b(x') for each exponent t, float64 [nodes, rank, rank].
        plane: The same for the kernel of planes, or None.
    """

    length: float
    projection: Tensor
    matrices: Tensor
    plane: Tensor | None


@dataclass(frozen=True)
class Plane:
    """The mode k = 0 of a slab.

    Attributes:
        alpha: Range separation, 1/Å.
        area: Of the cell, Å².
    """

    alpha: float
    area: float


def polynomial_count(alpha: float, length: float, tolerance: float) -> int:
    """Chebyshev polynomials that resolve exp(−α²(x − x')²) on an interval to the tolerance.

    αL √ln(1/ε) of them reach the wave numbers of the Gaussian; where it is wider than the interval, coefficients fall
    like those of an entire function. A little above what is measured for α · length from 0.1 to 30, all tolerances.
    """
    logarithm = math.log(1 / tolerance)
    return math.ceil(alpha * length * math.sqrt(logarithm) + 0.3 * logarithm) + 4


def open_axis(
    length: float, count: int, exponents: Tensor, amplitudes: Tensor, tolerance: float, plane: Plane | None = None
) -> OpenAxis:
    """Find the least basis in which all Gaussians are right to the tolerance, by a singular value decomposition.

    Args:
        length: Of the interval, Å.
        count: Chebyshev polynomials.
        exponents: t, 1/Å, float64 [nodes].
        amplitudes: Weight of each Gaussian along this direction, float64 [nodes].
        tolerance: Singular values that are dropped, relative to the largest.
        plane: What else the basis must hold, in slabs.
    """
    nodes = chebyshev_nodes(count) * (length / 2)
    separations = nodes[:, None] - nodes
    # Orthonormal in the weight 1/√(1 − x²), in which cutting singular values cuts errors evenly.
    norms = torch.ones(count, dtype=torch.float64)
    norms[0] = math.sqrt(2.0)
    transform = norms[:, None] * coefficients_from_values(count)
    gaussians = transform @ torch.exp(-((exponents[:, None, None] * separations) ** 2)) @ transform.T
    stacked = (amplitudes[:, None, None] * gaussians).transpose(0, 1).flatten(1)
    kernel = None
    if plane is not None:
        kernel = transform @ plane_kernel(separations, plane.alpha) @ transform.T
        stacked = torch.cat([stacked, kernel / plane.area], dim=1)
    vectors, values, _ = torch.linalg.svd(stacked, full_matrices=False)
    basis = vectors[:, values > tolerance * values[0]]
    return OpenAxis(
        length,
        basis / norms[:, None],
        basis.T @ gaussians @ basis,
        None if kernel is None else basis.T @ kernel @ basis,
    )


def plane_kernel(z: Tensor, alpha: float) -> Tensor:
    """Long-range potential of a plane of charge, per charge and times its area, e/Å·Å²: the mode k = 0 of a slab.

    −2√π (exp(−α²z²)/α + √π z erf(αz)); D. E. Parry, Surface Science 49, 433 (1975).
    """
    root = math.sqrt(math.pi)
    return -2 * root * (torch.exp(-((alpha * z) ** 2)) / alpha + root * z * torch.erf(alpha * z))
