"""Random parts of a data set, the same for the same seed."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mlip.errors import ConfigError


def partition_indices(n: int, fractions: Sequence[float], seed: int) -> list[NDArray[np.int64]]:
    """Deal the numbers 0 … n−1 at random into parts of the given fractions; each part ascends.

    Sizes are rounded such that they add up to n. Raises ConfigError for fractions that are negative or do not add up
    to 1, and for a part that should have members but would stay empty.
    """
    if not all(fraction >= 0 for fraction in fractions) or not np.isclose(sum(fractions), 1.0):
        listed = " ".join(f"{fraction:g}" for fraction in fractions)
        raise ConfigError(f"the fractions {listed} add up to {sum(fractions):g}; give positive ones that add up to 1")
    bounds = np.rint(np.concatenate(([0.0], np.cumsum(fractions))) * n).astype(int)
    for fraction, size in zip(fractions, np.diff(bounds), strict=True):
        if fraction > 0 and size == 0:
            raise ConfigError(f"a fraction {fraction:g} of {n} structures is none; give a larger fraction or more data")
    order = np.random.default_rng(seed).permutation(n).astype(np.int64)
    return [np.sort(order[start:stop]) for start, stop in pairwise(bounds)]


def split_indices(n: int, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of what remains, and of the `fraction` of n structures that is set aside, for example for validation.

    Raises ConfigError for a fraction outside [0, 1], or one that would leave either part empty.
    """
    if not 0 <= fraction <= 1:
        raise ConfigError(f"the fraction {fraction:g} is not between 0 and 1; give for example 0.1")
    remaining, aside = partition_indices(n, (1 - fraction, fraction), seed)
    return remaining, aside
