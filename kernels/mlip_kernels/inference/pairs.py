"""What an inference program takes and gives."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Gives, for further outputs of the atoms, float64 [atoms, outputs], the derivatives for them of an energy that they
# make.
Response = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of atoms that may be nearer than the cutoff, sorted by receiver.

    Attributes:
        starts: First pair of each receiver, and their number, int64 [atoms + 1].
        senders: int64 [pairs].
        offsets: Of the sender's image, Å, float64 [pairs, 3].
    """

    starts: NDArray[np.int64]
    senders: NDArray[np.int64]
    offsets: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a program computes.

    Attributes:
        energies: Of each atom, without reference energies, float64 [atoms].
        forces: float64 [atoms, 3].
        virial: Sum over edges of vector ⊗ gradient, eV, float64 [3, 3].
        nearest: Shortest distance of two atoms, Å; infinite without pairs.
    """

    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    virial: NDArray[np.float64]
    nearest: float
