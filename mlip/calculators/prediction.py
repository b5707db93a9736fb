"""What a model says about one structure."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlip.data.structures import Structure

# Three vectors that lie in one plane but for rounding span less.
_LEAST_VOLUME = 1e-6  # Å³


def open_boundaries(structure: Structure) -> bool:
    """Whether a dipole is defined: that of a periodic structure depends on where its cell is cut."""
    return not structure.pbc.any()


class StructurePrediction(NamedTuple):
    """What a model says about one structure: eV, eV/Å, eV/Å³, e, e Å."""

    structure: Structure
    energy: float
    energies: NDArray[np.float64]  # [N]
    forces: NDArray[np.float64]  # [N, 3]
    stress: NDArray[np.float64] | None  # [3, 3]; None if not asked for, or without a periodic cell that has a volume
    charges: NDArray[np.float64] | None = None  # [N]; None if the model has none
    dipole: NDArray[np.float64] | None = None  # [3], about the origin; None without charges, or if periodic


def has_volume(structure: Structure) -> bool:
    """Whether a stress is defined: the structure is periodic and its three cell vectors span a volume."""
    return bool(structure.pbc.any()) and abs(np.linalg.det(structure.cell)) > _LEAST_VOLUME
