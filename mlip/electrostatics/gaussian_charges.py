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


class GaussianDamping:
    """What has to be added to the potentials of point charges, each of which is infinite at its own place.

    It is `k (q_i / (sqrt(π) σ_i) − Σ_j q_j erfc(r_ij/γ_ij) / r_ij envelope_ij)`; with it and the potential of point
    charges, the energy is ½ Σ q_i φ_i.

    Args:
        widths: σ, Å [atoms].
        distances: Of the edges, both directions, periodic images included, Å [edges].
        envelope: Takes the correction to zero where edges end, [edges].
        senders: int64 [edges].
        receivers: int64 [edges].
    """

    def __init__(self, widths: Tensor, distances: Tensor, envelope: Tensor, senders: Tensor, receivers: Tensor) -> None:
        self.widths, self._senders, self._receivers = widths, senders, receivers
        variances = widths * widths
        gamma = torch.sqrt(2.0 * (variances[senders] + variances[receivers]))
        self._kernel = COULOMB_CONSTANT * torch.erfc(distances / gamma) / distances * envelope

    def potential(self, charges: Tensor) -> Tensor:
        """The correction for charges, e [atoms], in V [atoms]."""
        pulls = segment_sum(charges[self._senders] * self._kernel, self._receivers, charges.shape[0])
        return self_potential(charges, self.widths) - pulls
