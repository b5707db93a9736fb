"""Pairs of charges that do not see each other, such as bonded atoms in force fields."""

import torch
from torch import Tensor

from mlip.electrostatics.constants import COULOMB_CONSTANT
from mlip.electrostatics.inputs import ChargedStructures


def excluded_potentials(structures: ChargedStructures) -> Tensor:
    """What each charge would see of those that it does not see, V [N, channels]."""
    charges = structures.charges
    result = torch.zeros_like(charges)
    if not len(structures.excluded_pairs):
        return result
    first, second = structures.excluded_pairs.unbind(1)
    vectors = structures.positions[first] - structures.positions[second] + _nearest_images(structures)
    inverse = COULOMB_CONSTANT * vectors.square().sum(1).rsqrt()[:, None]
    result = result.index_add(0, first, inverse * charges[second])
    return result.index_add(0, second, inverse * charges[first])


def _nearest_images(structures: ChargedStructures) -> Tensor:
    """What to add to the vectors of excluded pairs so that they become the shortest, Å [pairs, 3]."""
    first, second = structures.excluded_pairs.unbind(1)
    numbers = structures.batch[first]
    periodic = torch.tensor(structures.pbc, device=numbers.device)
    if not bool(periodic.any()):
        return structures.positions.new_zeros(3)
    cells = structures.cells
    with torch.no_grad():
        vectors = (structures.positions[first] - structures.positions[second]).detach().double()
        inverses = torch.linalg.pinv(cells.detach().double())
        whole = -torch.round((vectors[:, None] @ inverses[numbers])[:, 0])
        # In skewed cells the nearest image may be one further.
        steps = torch.cartesian_prod(*(torch.arange(-1.0, 2.0),) * 3).to(whole)
        shifts = (whole[:, None] + steps) * periodic[numbers][:, None]
        lengths = (vectors[:, None] + shifts @ cells.detach().double()[numbers]).norm(dim=2)
        best = shifts[torch.arange(len(shifts), device=shifts.device), lengths.argmin(1)]
    return (best.to(cells)[:, None] @ cells[numbers])[:, 0]
