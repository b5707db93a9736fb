"""The search, by whatever is there."""

import numpy as np
from numpy.typing import NDArray

from mlip_kernels.backends import available_backend
from mlip_kernels.pair_list import reference
from mlip_kernels.pair_list.found import FoundPairs


def find_pairs(
    positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float
) -> FoundPairs:
    """All pairs of points nearer than a cutoff, images included, but no point with itself.

    With every pair its reverse is found.

    Args:
        positions: Finite, anywhere, [points, 3].
        cell: Cell vectors in rows, [3, 3]; those of directions that are not periodic do not matter.
        pbc: Which directions are periodic, [3]. Their vectors span a length, an area or a volume.
        cutoff: In the unit of the positions; cells may be smaller.
    """
    box = np.where(np.asarray(pbc)[:, None], cell, 0.0)
    if available_backend("cpu") == "reference":
        return reference.find_pairs(positions, box, pbc, cutoff)
    from mlip_kernels.pair_list import cpu

    cpu.prepare()
    return cpu.find_pairs(positions, box, pbc, cutoff)
