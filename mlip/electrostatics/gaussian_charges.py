"""Gaussian charges: what distinguishes them from point charges, which is of short range.

Two charges with the densities of Gaussians, `ρ_i(r) ~ q_i exp(−r²/2σ_i²)`, interact by `q_i q_j erf(r/γ_ij)/r` with
`γ_ij = sqrt(2 (σ_i² + σ_j²))`, and each with itself by `q_i²/(2 sqrt(π) σ_i)` (times the Coulomb constant), so that
energies stay finite where atoms meet and at bonded distances are those of overlapping clouds.
"""

import math

import torch
from torch import Tensor

from mlip.electrostatics.constants import COULOMB_CONSTANT
from mlip_kernels.segment_sum import segment_sum


def self_potential(charges: Tensor, widths: Tensor) -> Tensor:
    """Potential of each charge at its own centre, `k q / (sqrt(π) σ)`, V [atoms]; twice its self energy per charge."""
    return COULOMB_CONSTANT / math.sqrt(math.pi) * charges / widths


def damping_potential(
    charges: Tensor, widths: Tensor, distances: Tensor, envelope: Tensor, senders: Tensor, receivers: Tensor
) -> Tensor:
    """What has to be added to the potentials of point charges, in themselves infinite at their own places, V [atoms].

    Args:
        charges: e [atoms].
        widths: σ, Å [atoms].
        distances: Of the edges, both directions, periodic images included, Å [edges].
        envelope: Takes the correction to zero where edges end, [edges].
        senders: int64 [edges].
        receivers: int64 [edges], ascending.

    Returns:
        `k (q_i / (sqrt(π) σ_i) − Σ_j q_j erfc(r_ij/γ_ij) / r_ij envelope_ij)`; with the point charges' potential it
        gives the energy ½ Σ q_i φ_i.
    """
    variances = widths * widths
    gamma = torch.sqrt(2.0 * (variances[senders] + variances[receivers]))
    pulls = charges[senders] * torch.erfc(distances / gamma) / distances * envelope
    return self_potential(charges, widths) - COULOMB_CONSTANT * segment_sum(pulls, receivers, charges.shape[0])
