"""Screened nuclear repulsion at short range."""

import ase.data
import ase.units
import torch
from torch import Tensor

from mlip.nn.radial import polynomial_cutoff
from mlip_kernels.constants import ConstantModule

# exp(-decay x) terms of the universal screening function.
_AMPLITUDES = (0.18175, 0.50986, 0.28022, 0.02817)
_DECAYS = (3.19980, 0.94229, 0.40290, 0.20162)
_CUTOFF_POWER = 6


class ZBLRepulsion(ConstantModule):
    """Ziegler-Biersack-Littmark repulsion, ended smoothly at the sum of the covalent radii or at the cutoff.

    J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Solids (1985). The energy of a pair is
    `k Z1 Z2 / r phi(r / a) f(r)` with a = 0.88534 a0 / (Z1^0.23 + Z2^0.23), the universal screening function phi and
    the polynomial cutoff f; half of it goes to each atom.

    Args:
        atomic_numbers: Atomic number of each of the model's elements.
        cutoff: That of the model, Å, beyond which there are no edges; two caesium atoms would repel up to 4.88 Å.
    """

    charges: Tensor
    radii: Tensor
    amplitudes: Tensor
    decays: Tensor

    def __init__(self, atomic_numbers: list[int], cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.register_constant("charges", torch.tensor(atomic_numbers, dtype=torch.float64))
        self.register_constant("radii", torch.tensor(ase.data.covalent_radii[atomic_numbers]))
        self.register_constant("amplitudes", torch.tensor(_AMPLITUDES, dtype=torch.float64))
        self.register_constant("decays", torch.tensor(_DECAYS, dtype=torch.float64))

    def forward(self, distances: Tensor, sender_elements: Tensor, receiver_elements: Tensor) -> Tensor:
        """Energy of each directed edge, half that of the pair, eV [edges].

        Args:
            distances: Å [edges].
            sender_elements: Number of the sender's element in the model's list, int64 [edges].
            receiver_elements: The same of the receiver.
        """
        z1, z2 = self.charges[sender_elements], self.charges[receiver_elements]
        screening_length = 0.88534 * ase.units.Bohr / (z1**0.23 + z2**0.23)
        screening = torch.exp(-self.decays * (distances / screening_length)[:, None]) @ self.amplitudes
        coulomb = ase.units.Hartree * ase.units.Bohr * z1 * z2 / distances
        end = (self.radii[sender_elements] + self.radii[receiver_elements]).clamp(max=self.cutoff)
        return 0.5 * coulomb * screening * polynomial_cutoff(distances, end, _CUTOFF_POWER)
