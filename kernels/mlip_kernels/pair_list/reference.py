"""The pairs that vesin finds."""

import numpy as np
from numpy.typing import NDArray
from vesin import NeighborList

from mlip_kernels.pair_list.found import FoundPairs


def find_pairs(
    positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float
) -> FoundPairs:
    """The function of `search.find_pairs`, with zeros as vectors of open directions."""
    search = NeighborList(cutoff=cutoff, full_list=True, sorted=True)
    receivers, senders, shifts, distances = search.compute(
        points=positions, box=cell, periodic=np.asarray(pbc), quantities="ijSd"
    )
    shortest, nearest = np.inf, (0, 0)
    if len(distances):
        pair = int(distances.argmin())
        shortest, nearest = float(distances[pair]), (int(receivers[pair]), int(senders[pair]))
    degrees = np.bincount(receivers.astype(np.int64), minlength=len(positions))
    return FoundPairs(
        starts=np.concatenate([[0], np.cumsum(degrees)]).astype(np.int64),
        senders=senders.astype(np.int64),
        shifts=shifts.astype(np.int32),
        offsets=shifts @ cell,
        shortest=shortest,
        nearest=nearest,
    )
