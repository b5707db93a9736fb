"""The sum over all pairs as plain torch does it best: distances by `cdist`, and all sums by matrix products."""

import torch
from torch import Tensor

from mlip.benchmarks.electrostatics_systems import EnergyForces
from mlip.electrostatics.constants import COULOMB_CONSTANT

_NUMBERS = 1 << 18  # of a block of distances, 2 MiB: what stays in a processor's cache is computed with faster


def matrix_direct(positions: Tensor, charges: Tensor) -> EnergyForces:
    """Energy and forces of an open system, forces by their formula and not by automatic differentiation.

    With w_ij = 1/r_ij³, F_i = q_i Σ_j q_j w_ij (x_i − x_j) takes one product of the matrix w with the four columns q
    and q x. Blocks of rows bound the memory.

    Args:
        positions: Å [N, 3].
        charges: e [N].
    """
    count = len(charges)
    columns = torch.cat([charges[:, None], charges[:, None] * positions], dim=1)
    potentials, sums = torch.empty_like(charges), torch.empty_like(columns)
    rows = max(1, _NUMBERS // count)
    for first in range(0, count, rows):
        part = slice(first, min(first + rows, count))
        # Differences of squares, which are quicker, would lose half of the digits of near pairs.
        inverse = torch.cdist(positions[part], positions, compute_mode="donot_use_mm_for_euclid_dist")
        inverse[:, part].fill_diagonal_(torch.inf)
        inverse.reciprocal_()
        potentials[part] = inverse @ charges
        sums[part] = (inverse * inverse).mul_(inverse) @ columns
    forces = charges[:, None] * (positions * sums[:, :1] - sums[:, 1:])
    return EnergyForces(COULOMB_CONSTANT / 2 * float(charges @ potentials), COULOMB_CONSTANT * forces)
