"""Values and gradients of a Chebyshev-Tucker tensor at points, some points at a time."""

from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint

from mlip.electrostatics.chebyshev import chebyshev_derivatives, chebyshev_values
from mlip.electrostatics.format.tucker import Tucker
from mlip_kernels.separable_moments import separable_evaluation

# Of the Chebyshev polynomials of one axis at the points of a chunk, so that they stay in a processor's cache.
_CHUNK_BYTES = 1 << 21


def values(tensor: Tucker, points: torch.Tensor) -> torch.Tensor:
    """The polynomial at points `[N, 3]` of the cube [−1, 1]³, `[N]`; differentiable to any order in the points."""
    return _in_chunks(_values, tensor, points)


def gradients(tensor: Tucker, points: torch.Tensor) -> torch.Tensor:
    """Derivatives by the coordinates of the cube at points `[N, 3]`, `[N, 3]`; differentiable to any order."""
    return _in_chunks(_gradients, tensor, points)


def _in_chunks(
    function: Callable[[Tucker, torch.Tensor], torch.Tensor], tensor: Tucker, points: torch.Tensor
) -> torch.Tensor:
    chunk = max(64, _CHUNK_BYTES // (8 * max(len(factor) for factor in tensor.factors)))
    parts = points.split(chunk)
    if len(parts) > 1 and torch.is_grad_enabled() and points.requires_grad:
        # What a chunk needs for its derivatives is computed again when they are asked for, instead of being kept.
        results = [checkpoint(function, tensor, part, use_reentrant=False) for part in parts]
    else:
        results = [function(tensor, part) for part in parts]
    return torch.cat(results)


def _values(tensor: Tucker, points: torch.Tensor) -> torch.Tensor:
    return _contract(tensor, _rows(tensor, points, chebyshev_values))


def _gradients(tensor: Tucker, points: torch.Tensor) -> torch.Tensor:
    x, y, z = _rows(tensor, points, chebyshev_values)
    dx, dy, dz = _rows(tensor, points, chebyshev_derivatives)
    return torch.stack([_contract(tensor, rows) for rows in ([dx, y, z], [x, dy, z], [x, y, dz])], dim=1)


def _rows(
    tensor: Tucker, points: torch.Tensor, polynomials: Callable[[torch.Tensor, int], torch.Tensor]
) -> list[torch.Tensor]:
    """The functions of each axis at the points, `[N, r_d]`."""
    return [polynomials(points[:, axis], len(factor)) @ factor for axis, factor in enumerate(tensor.factors)]


def _contract(tensor: Tucker, rows: list[torch.Tensor]) -> torch.Tensor:
    x, y, z = rows
    starts = torch.tensor([0, len(x)], device=x.device)
    return separable_evaluation(tensor.core[None, None], x, y, z, starts)[:, 0]
