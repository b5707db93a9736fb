"""From a canonical tensor, a sum of R weighted products of vectors, to a Tucker tensor: the reduced HOSVD.

The side matrix of each axis (its R vectors, weighted) is decomposed instead of the full tensor, so that nothing of the
tensor's size is formed (Khoromskij & Khoromskaia 2009; Benner et al. 2025, arXiv 2503.01696, algorithm 4).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.interpolate import CubicSpline

from mlip.electrostatics.format.box import spread_points
from mlip.electrostatics.format.tucker import Tucker, left_singular, rank_within
from mlip_kernels.separable_moments import separable_moments

# Rounding relative to the sum of terms, below which no cancellation between them can be followed.
_FLOOR = 1e-15
# Each side matrix is truncated so much tighter than the tensor, whose error the side matrices do not know exactly.
_SIDE_SHARE = 1e-2


def reduced_hosvd(weights: torch.Tensor, columns: Sequence[torch.Tensor], tolerance: float) -> Tucker:
    """Tucker tensor of Σ_k w_k a_k ⊗ b_k ⊗ c_k, truncated a hundred times tighter than a relative tolerance.

    Args:
        weights: w, `[R]`.
        columns: the vectors of the three axes, each `[n_d, R]`.
        tolerance: relative to the norm of the tensor, not of its terms, which may cancel.
    """
    norms = [column.norm(dim=0).clamp(min=torch.finfo(weights.dtype).tiny) for column in columns]
    scaled = weights * norms[0] * norms[1] * norms[2]
    columns = [column / norm for column, norm in zip(columns, norms, strict=True)]
    decomposed = [left_singular(column * scaled.abs()) for column in columns]

    def build(share: float) -> Tucker:
        allowed = share * float(scaled.norm())
        factors = [vectors[:, : rank_within(values, allowed)] for vectors, values in decomposed]
        rows = [column.mT @ factor for column, factor in zip(columns, factors, strict=True)]
        return Tucker(sum_of_products(scaled, rows), (factors[0], factors[1], factors[2]))

    return tight_against_cancellation(build, tolerance, float(scaled.norm()))


def tight_against_cancellation(build: Callable[[float], Tucker], tolerance: float, scale: float) -> Tucker:
    """`build(share)` with truncation relative to its terms, again with a smaller share where the terms cancel.

    `scale` is the norm that the sum would have were its terms orthogonal. Potentials of neutral systems can be orders
    of magnitude smaller than those of their charges.
    """
    share = max(_SIDE_SHARE * tolerance, _FLOOR)
    tensor = build(share)
    left = tensor.norm / scale if scale > 0 else 1.0
    if left < 0.1 and share > _FLOOR:
        tensor = build(max(share * left, _FLOOR))
    return tensor


def sum_of_products(weights: torch.Tensor, rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Σ_k w_k x_k ⊗ y_k ⊗ z_k, `[r₁, r₂, r₃]`, of weights `[R]` and rows `[R, r_d]`."""
    x, y, z = rows
    starts = torch.tensor([0, len(weights)], device=weights.device)
    return separable_moments(weights[:, None], x, y, z, starts)[0, 0]


def interpolate_columns(grid: torch.Tensor, columns: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Columns `[n, R]` given on an ascending grid `[n]`, at points `[m]` of it, by cubic splines, `[m, R]`."""
    spline = CubicSpline(grid.cpu().numpy(), columns.cpu().numpy(), axis=0)
    return torch.from_numpy(np.ascontiguousarray(spline(points.cpu().numpy()))).to(columns)


def sampled_canonical(
    weights: torch.Tensor, columns: Sequence[torch.Tensor], axes: Sequence[torch.Tensor], count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of the grid `[count, 3]`, spread over it, and the values of the canonical tensor there, `[count]`."""
    highest = weights.new_tensor([len(axis) - 1 for axis in axes])
    places = spread_points(torch.stack([torch.zeros_like(highest), highest]), count).round().long()
    points = torch.stack([axis[place] for axis, place in zip(axes, places.T, strict=True)], dim=1)
    x, y, z = (column[place] for column, place in zip(columns, places.T, strict=True))
    return points, (x * y * z) @ weights
