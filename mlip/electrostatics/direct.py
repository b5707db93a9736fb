"""The sum over all pairs of charges of open structures."""

from torch import Tensor

from mlip.electrostatics.constants import COULOMB_CONSTANT
from mlip.electrostatics.inputs import ChargedStructures
from mlip_kernels.coulomb_pairs import direct_potential


def direct_potentials(structures: ChargedStructures) -> Tensor:
    """Potentials of all other charges of the same structure, V [N, channels]."""
    return COULOMB_CONSTANT * direct_potential(structures.positions, structures.charges, structures.starts)
