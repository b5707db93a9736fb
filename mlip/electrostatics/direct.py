"""The sum over all pairs of charges of open structures."""

from torch import Tensor

from mlip.electrostatics.constants import COULOMB_CONSTANT
from mlip.electrostatics.inputs import ChargedStructures
from mlip_kernels.coulomb_pairs import direct_energies, direct_potential


def direct_sums(structures: ChargedStructures) -> tuple[Tensor, Tensor]:
    """Energies, eV [structures, channels], and potentials of all other charges of a structure, V [N, channels]."""
    energies, potentials = direct_energies(structures.positions, structures.charges, structures.starts)
    return COULOMB_CONSTANT * energies, COULOMB_CONSTANT * potentials


def direct_potentials(structures: ChargedStructures, charges: Tensor) -> Tensor:
    """Potentials of charges at the places of the structures' own, V [N, channels]."""
    return COULOMB_CONSTANT * direct_potential(structures.positions, charges, structures.starts)
