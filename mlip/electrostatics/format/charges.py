"""The long-range potential of point charges, Σ_i q_i erf(α|r − r_i|)/|r − r_i|, as a Tucker tensor of coefficients.

A sum of Gaussians makes each charge a sum of K products of functions of one coordinate. The N·K products are never
formed: exp(−t²(x − s)²) is a polynomial in the place x and in the source s, of few functions of either that are common
to all exponents, so that the charges enter by one tensor of moments.
"""

import math
from collections.abc import Sequence

import torch

from mlip.electrostatics.chebyshev import chebyshev_nodes, chebyshev_values, coefficients_from_values
from mlip.electrostatics.format.box import from_cube, to_cube
from mlip.electrostatics.format.canonical import sum_of_products, tight_against_cancellation
from mlip.electrostatics.format.degrees import Degrees, resolving_degree
from mlip.electrostatics.format.tucker import Tucker, left_singular, rank_within, transform
from mlip.electrostatics.quadrature import gaussian_sum
from mlip.errors import ConfigError

_CHUNK_ELEMENTS = 1 << 18
# Interpolation and quadrature are no more accurate, by rounding.
_LEAST_TOLERANCE = 2e-14


def long_range_tensor(
    positions: torch.Tensor, charges: torch.Tensor, alpha: float, box: torch.Tensor, degrees: Degrees, tolerance: float
) -> Tucker:
    """Chebyshev coefficients on a box of the long-range potential, in e/Å, within a relative tolerance.

    positions `[N, 3]` in Å inside `box` `[2, 3]`, charges `[N]` in e, alpha in 1/Å.
    """
    places = to_cube(positions, box)

    def build(share: float) -> Tucker:
        accuracy = max(share, _LEAST_TOLERANCE)
        exponents, weights = gaussian_sum(alpha, float((box[1] - box[0]).norm()), accuracy)
        axes = [
            _axis(exponents.tolist(), box, axis, degree, sources, share)
            for axis, (degree, sources) in enumerate(
                zip(degrees, long_range_degrees(alpha, box, accuracy), strict=True)
            )
        ]
        moments = _moments(places, charges, [basis for _, basis, _ in axes])
        core = sum(
            weight * transform(moments, [matrices[place] for _, _, matrices in axes])
            for place, weight in enumerate(weights.tolist())
        )
        assert isinstance(core, torch.Tensor)
        return Tucker(core, (axes[0][0], axes[1][0], axes[2][0]))

    return tight_against_cancellation(build, tolerance, 2 * alpha / math.sqrt(math.pi) * float(charges.norm()))


def _axis(
    exponents: Sequence[float], box: torch.Tensor, axis: int, degree: int, sources: int, share: float
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Factor U `[degree, r]`, basis of the sources V `[sources, r']` and a matrix A `[r, r']` for each exponent t.

    exp(−t²(x − s)²) = T(x) U A Vᵀ T(s), where T are the Chebyshev polynomials.
    """
    places, centres = (from_cube(chebyshev_nodes(count).to(box.device), box, axis) for count in (degree, sources))
    left, right = (coefficients_from_values(count).to(box.device) for count in (degree, sources))
    full = [left @ _gaussians(exponent, places, centres) @ right.mT for exponent in exponents]
    factor, basis = (_common(parts, share) for parts in (full, [matrix.mT for matrix in full]))
    return factor, basis, [factor.mT @ matrix @ basis for matrix in full]


def _common(matrices: Sequence[torch.Tensor], share: float) -> torch.Tensor:
    """Orthonormal basis of all columns, but for a share of them."""
    vectors, values = left_singular(torch.cat(list(matrices), dim=1))
    return vectors[:, : rank_within(values, share * float(values[0]))]


def _moments(places: torch.Tensor, charges: torch.Tensor, bases: Sequence[torch.Tensor]) -> torch.Tensor:
    """Σ_i q_i a(x_i) b(y_i) c(z_i) of the functions of the bases, at places `[N, 3]` of the cube."""
    chunk = max(1, _CHUNK_ELEMENTS // max(len(basis) for basis in bases))
    rows = [
        torch.cat([chebyshev_values(part, len(basis)) @ basis for part in places[:, axis].split(chunk)])
        for axis, basis in enumerate(bases)
    ]
    return sum_of_products(charges, rows)


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
                "lower alpha, raise the tolerance, or take a smaller box."
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
