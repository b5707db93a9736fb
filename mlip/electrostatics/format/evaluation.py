"""Values and gradients of a Chebyshev-Tucker tensor at points, by matrix products over chunks of points."""

from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint

from mlip.electrostatics.chebyshev import chebyshev_derivatives, chebyshev_values
from mlip.electrostatics.format.tucker import Tucker

# Of the largest array of a chunk, [points, r₂, r₃]; small enough to stay in a processor's cache.
_CHUNK_BYTES = 1 << 22


def values(tensor: Tucker, points: torch.Tensor) -> torch.Tensor:
    """The polynomial at points `[N, 3]` of the cube [−1, 1]³, `[N]`; differentiable to any order in the points."""
    return _in_chunks(_values, tensor, points)


def gradients(tensor: Tucker, points: torch.Tensor) -> torch.Tensor:
    """Derivatives by the coordinates of the cube at points `[N, 3]`, `[N, 3]`; differentiable to any order."""
    return _in_chunks(_gradients, tensor, points)


def _in_chunks(
    function: Callable[[Tucker, torch.Tensor], torch.Tensor], tensor: Tucker, points: torch.Tensor
) -> torch.Tensor:
    _, second, third = tensor.core.shape
    chunk = max(64, _CHUNK_BYTES // (8 * second * third))
    parts = points.split(chunk)
    if len(parts) > 1 and torch.is_grad_enabled() and points.requires_grad:
        # What a chunk needs for its derivatives is computed again when they are asked for, instead of being kept.
        results = [checkpoint(function, tensor, part, use_reentrant=False) for part in parts]
    else:
        results = [function(tensor, part) for part in parts]
    return torch.cat(results)


def _values(tensor: Tucker, points: torch.Tensor) -> torch.Tensor:
    x, y, z = (chebyshev_values(points[:, axis], len(factor)) @ factor for axis, factor in enumerate(tensor.factors))
    return (torch.bmm(_contract_first(tensor.core, x), z[:, :, None])[:, :, 0] * y).sum(dim=1)


def _gradients(tensor: Tucker, points: torch.Tensor) -> torch.Tensor:
    x, y, z = (chebyshev_values(points[:, axis], len(factor)) @ factor for axis, factor in enumerate(tensor.factors))
    dx, dy, dz = (
        chebyshev_derivatives(points[:, axis], len(factor)) @ factor for axis, factor in enumerate(tensor.factors)
    )
    matrices = _contract_first(tensor.core, x)
    along_x = (torch.bmm(_contract_first(tensor.core, dx), z[:, :, None])[:, :, 0] * y).sum(dim=1)
    along_y, along_z = torch.bmm(matrices, torch.stack([z, dz], dim=2)).unbind(dim=2)
    return torch.stack([along_x, (along_y * dy).sum(dim=1), (along_z * y).sum(dim=1)], dim=1)


def _contract_first(core: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Σ_a x_a core_abc for every point, `[N, r₂, r₃]`."""
    return (x @ core.flatten(1)).reshape(len(x), core.shape[1], core.shape[2])
