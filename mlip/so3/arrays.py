"""Arrays that are computed once and shared."""

import numpy as np


def read_only(array: np.ndarray) -> np.ndarray:
    """The array, contiguous and protected from writing, so that a cached constant cannot be changed by a caller."""
    array = np.ascontiguousarray(array)
    array.setflags(write=False)
    return array
