"""What is found."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class FoundPairs:
    """Pairs of points, both directions, sorted by receiver.

    Attributes:
        starts: First pair of each receiver, and the number of pairs, int64 [points + 1].
        senders: int64 [pairs].
        shifts: Of the sender's image, in cell vectors, int32 [pairs, 3].
        offsets: The same in space, float64 [pairs, 3]: the vector of a pair is `positions[sender] + offset -
            positions[receiver]`.
        shortest: Least distance; infinite without pairs.
        nearest: A pair of points at this distance; (0, 0) without pairs.
    """

    starts: NDArray[np.int64]
    senders: NDArray[np.int64]
    shifts: NDArray[np.int32]
    offsets: NDArray[np.float64]
    shortest: float
    nearest: tuple[int, int]
