"""The long-range potential of point charges, Σ_i q_i erf(α|r − r_i|)/|r − r_i|, as a Tucker tensor of coefficients.

A sum of Gaussians makes each charge a sum of K products of functions of one coordinate. The N products of one exponent
share factors, found from Gaussians centred anywhere in the box, so that the N·K products are never stored together
and a wide Gaussian costs little: its rank is small.
"""

import math
from collections.abc import Sequence

import torch

from mlip.electrostatics.chebyshev import chebyshev_nodes, coefficients_from_values
from mlip.electrostatics.format.box import from_cube
from mlip.electrostatics.format.canonical import sum_of_products, tight_against_cancellation
from mlip.electrostatics.format.degrees import Degrees, resolving_degree
from mlip.electrostatics.format.tucker import Tucker, add, left_singular, rank_within
from mlip.electrostatics.quadrature import gaussian_sum
from mlip.errors import ConfigError

_CHUNK_ELEMENTS = 1 << 18


def long_range_tensor(
    positions: torch.Tensor, charges: torch.Tensor, alpha: float, box: torch.Tensor, degrees: Degrees, tolerance: float
) -> Tucker:
    """Chebyshev coefficients on a box of the long-range potential, in e/Å, within a relative tolerance.

    positions `[N, 3]` in Å inside `box` `[2, 3]`, charges `[N]` in e, alpha in 1/Å.
    """
    radius = float((box[1] - box[0]).norm())
    kernel_scale = 2 * alpha / math.sqrt(math.pi)

    def build(share: float) -> Tucker:
        exponents, weights = gaussian_sum(alpha, radius, max(share, 2e-14))
        terms = [
            _gaussian_term(positions, weight * charges, exponent, box, degrees, share)
            for exponent, weight in zip(exponents.tolist(), weights.tolist(), strict=True)
        ]
        return add(terms, share * kernel_scale * float(charges.norm()))

    return tight_against_cancellation(build, tolerance, kernel_scale * float(charges.norm()))


def _gaussian_term(
    positions: torch.Tensor,
    weights: torch.Tensor,
    exponent: float,
    box: torch.Tensor,
    degrees: Sequence[int],
    tolerance: float,
) -> Tucker:
    """Σ_i w_i exp(−t²|r − r_i|²)."""
    factors, rows = [], []
    for axis, degree in enumerate(degrees):
        nodes = from_cube(chebyshev_nodes(degree).to(box.device), box, axis)
        to_coefficients = coefficients_from_values(degree).to(box.device)
        coordinates = positions[:, axis]
        centres = coordinates if len(coordinates) <= 2 * degree else nodes
        vectors, values = left_singular(to_coefficients @ _gaussians(exponent, nodes, centres))
        factor = vectors[:, : rank_within(values, tolerance * float(values[0]))]
        projection = factor.mT @ to_coefficients
        chunk = max(1, _CHUNK_ELEMENTS // degree)
        rows.append(torch.cat([_gaussians(exponent, part, nodes) @ projection.mT for part in coordinates.split(chunk)]))
        factors.append(factor)
    return Tucker(sum_of_products(weights, rows), (factors[0], factors[1], factors[2]))


def _gaussians(exponent: float, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return torch.exp(-(exponent * (first[:, None] - second)).square())


def long_range_degrees(alpha: float, box: torch.Tensor, tolerance: float) -> Degrees:
    """Coefficients an axis needs for erf(αr)/r centred in the middle, where Chebyshev nodes are sparsest.

    Raises ConfigError if 513 are not enough.
    """
    degrees = []
    for length in (box[1] - box[0]).tolist():
        reach = alpha * length / 2
        degree = resolving_degree(lambda nodes, reach=reach: _kernel(reach * nodes)[:, None], tolerance)  # type: ignore[misc]
        if degree is None:
            raise ConfigError(
                f"A box {length:g} Å long is too large for alpha = {alpha:g} 1/Å at a tolerance of {tolerance:g}: "
                "lower alpha, raise the tolerance, or give a degree."
            )
        degrees.append(degree)
    return degrees[0], degrees[1], degrees[2]


def long_range_potential(
    points: torch.Tensor, positions: torch.Tensor, charges: torch.Tensor, alpha: float
) -> torch.Tensor:
    """The same potential by a direct sum, in e/Å, at points `[M, 3]`, in chunks of points."""
    chunk = max(1, _CHUNK_ELEMENTS // len(positions))
    return torch.cat(
        [
            alpha * _kernel(alpha * torch.cdist(part, positions, compute_mode="donot_use_mm_for_euclid_dist")) @ charges
            for part in points.split(chunk)
        ]
    )


def _kernel(x: torch.Tensor) -> torch.Tensor:
    """erf(x)/x, 2/√π at 0."""
    safe = torch.where(x == 0, 1.0, x)
    return torch.where(x == 0, 2 / math.sqrt(math.pi), torch.erf(safe) / safe)
