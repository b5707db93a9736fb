"""Screened nuclear repulsion at short range."""

from typing import NamedTuple

import ase.data
import ase.units
import torch
from torch import Tensor

from mlip.nn.radial import polynomial_cutoff
from mlip_kernels.constants import ConstantModule


class ScreeningForm(NamedTuple):
    """Constants of a screened Coulomb repulsion `k Z1 Z2 / r Σ amplitudes exp(−decays r / a)`.

    Attributes:
        amplitudes: Of the terms of the screening function.
        decays: Of the same.
        length: In `a = length / (Z1^exponent + Z2^exponent)`, Å.
        exponent: In the same.
        coulomb: k, eV Å.
        ends_at_cutoff: Whether the repulsion ends at the model's cutoff, if the covalent radii reach beyond.
        stored: Whether models keep the constants beside their weights, since they may have been trained or rounded.
    """

    amplitudes: tuple[float, ...]
    decays: tuple[float, ...]
    length: float
    exponent: float
    coulomb: float
    ends_at_cutoff: bool
    stored: bool


SCREENING_FORMS = {
    "universal": ScreeningForm(
        amplitudes=(0.18175, 0.50986, 0.28022, 0.02817),
        decays=(3.19980, 0.94229, 0.40290, 0.20162),
        length=0.88534 * ase.units.Bohr,
        exponent=0.23,
        coulomb=ase.units.Hartree * ase.units.Bohr,
        ends_at_cutoff=True,
        stored=False,
    ),
    "mace": ScreeningForm(
        amplitudes=(0.1818, 0.5099, 0.2802, 0.02817),
        decays=(3.2, 0.9423, 0.4028, 0.2016),
        length=0.4543 * 0.529,
        exponent=0.3,
        coulomb=14.3996,
        ends_at_cutoff=False,
        stored=True,
    ),
}


class ZBLRepulsion(ConstantModule):
    """Ziegler-Biersack-Littmark repulsion, ended smoothly at the sum of the covalent radii or at the cutoff.

    J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Solids (1985). The energy of a pair is
    `k Z1 Z2 / r phi(r / a) f(r)` with the screening function phi, its length a and the polynomial cutoff f; half of it
    goes to each atom.

    Args:
        atomic_numbers: Atomic number of each of the model's elements.
        cutoff: That of the model, Å, beyond which there are no edges; two caesium atoms would repel up to 4.88 Å.
        form: A key of `SCREENING_FORMS`.
        power: p of the polynomial cutoff.
    """

    charges: Tensor
    radii: Tensor
    amplitudes: Tensor
    decays: Tensor
    length: Tensor
    exponent: Tensor

    def __init__(self, atomic_numbers: list[int], cutoff: float, form: str = "universal", power: int = 6) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.power = power
        self.form = SCREENING_FORMS[form]
        stored = self.form.stored
        self.register_constant("charges", torch.tensor(atomic_numbers, dtype=torch.float64))
        self.register_constant("radii", torch.tensor(ase.data.covalent_radii[atomic_numbers]), stored)
        self.register_constant("amplitudes", torch.tensor(self.form.amplitudes, dtype=torch.float64), stored)
        self.register_constant("decays", torch.tensor(self.form.decays, dtype=torch.float64))
        self.register_constant("length", torch.tensor(self.form.length, dtype=torch.float64), stored)
        self.register_constant("exponent", torch.tensor(self.form.exponent, dtype=torch.float64), stored)

    def forward(self, distances: Tensor, sender_elements: Tensor, receiver_elements: Tensor) -> Tensor:
        """Energy of each directed edge, half that of the pair, eV [edges].

        Args:
            distances: Å [edges].
            sender_elements: Number of the sender's element in the model's list, int64 [edges].
            receiver_elements: The same of the receiver.
        """
        z1, z2 = self.charges[sender_elements], self.charges[receiver_elements]
        screening_length = self.length / (z1**self.exponent + z2**self.exponent)
        screening = torch.exp(-self.decays * (distances / screening_length)[:, None]) @ self.amplitudes
        coulomb = self.form.coulomb * z1 * z2 / distances
        end = self.radii[sender_elements] + self.radii[receiver_elements]
        if self.form.ends_at_cutoff:
            end = end.clamp(max=self.cutoff)
        return 0.5 * coulomb * screening * polynomial_cutoff(distances, end, self.power)
