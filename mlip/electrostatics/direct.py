"""The sum over all pairs of charges of open structures."""

import torch
from torch import Tensor

from mlip.electrostatics.constants import COULOMB_CONSTANT
from mlip.electrostatics.inputs import ChargedStructures

# Distances of so many pairs are held at a time.
_PAIRS_AT_A_TIME = 1 << 22


def direct_potentials(structures: ChargedStructures) -> Tensor:
    """Potentials of all other charges of the same structure, V [N, channels]."""
    return COULOMB_CONSTANT * direct_potential(structures.positions, structures.charges, structures.starts)


def direct_potential(positions: Tensor, charges: Tensor, starts: Tensor) -> Tensor:
    """Σ_j q_j / r_ij over the other charges of the same structure, e/Å [N, channels]."""
    parts = []
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        places = positions[begin:end]
        squares = (places[:, None] - places).square().sum(-1)
        own = torch.eye(end - begin, dtype=torch.bool, device=positions.device)
        inverse = squares.masked_fill(own, 1.0).rsqrt().masked_fill(own, 0.0)
        parts.append(inverse @ charges[begin:end])
    return torch.cat(parts)


class DirectField:
    """The potential of charges at any point, by the sum over them."""

    def __init__(self, positions: Tensor, charges: Tensor) -> None:
        """Positions [N, 3] in Å and charges [N, channels] in e."""
        self.positions = positions
        self.charges = charges

    def potential(self, points: Tensor) -> Tensor:
        """V [points, channels]."""
        parts = []
        for some in self._chunks(points):
            distances = torch.cdist(some, self.positions, compute_mode="donot_use_mm_for_euclid_dist")
            parts.append(distances.reciprocal_() @ self.charges)
        return COULOMB_CONSTANT * torch.cat(parts)

    def field(self, points: Tensor) -> Tensor:
        """V/Å [points, 3, channels], towards falling potential."""
        parts = []
        moments = (self.positions[:, :, None] * self.charges[:, None]).flatten(1)
        for some in self._chunks(points):
            distances = torch.cdist(some, self.positions, compute_mode="donot_use_mm_for_euclid_dist")
            weights = distances.reciprocal_().pow_(3)
            own = some[:, :, None] * (weights @ self.charges)[:, None]
            parts.append(own - (weights @ moments).unflatten(1, (3, -1)))
        return COULOMB_CONSTANT * torch.cat(parts)

    def _chunks(self, points: Tensor) -> tuple[Tensor, ...]:
        return points.split(max(1, _PAIRS_AT_A_TIME // max(1, self.positions.shape[0])))
