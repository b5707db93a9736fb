"""The recursion that spherical harmonics are computed by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class HarmonicsTable:
    """Coefficients T^l of `R_{l+1, i}(u) = sum over j, k of T^l[j, k, i] R_{l, j}(u) u_k`, with R_0 = 1.

    The solid harmonics R_l are homogeneous polynomials of degree l; where T^l is a multiple of the 3j tensor
    (l, 1, l + 1) they are harmonic, and `dR_{l+1, i}/du_k = (l + 1) sum over j of T^l[j, k, i] R_{l, j}(u)`. The
    coefficients carry order, signs and normalisation.

    Attributes:
        raisings: T^0 … T^(l_max - 1), float64 [2*l+1, 3, 2*l+3] each.
    """

    raisings: tuple[NDArray[np.float64], ...]

    def __post_init__(self) -> None:
        for degree, raising in enumerate(self.raisings):
            shape = (2 * degree + 1, 3, 2 * degree + 3)
            if raising.shape != shape:
                raise ValueError(
                    f"the coefficients from degree {degree} to the next have the shape {list(raising.shape)}: "
                    f"give an array of {list(shape)}."
                )

    @property
    def l_max(self) -> int:
        """Highest degree."""
        return len(self.raisings)

    @cached_property
    def terms(self) -> tuple[list[int], list[float]]:
        """All terms as flat lists: component i, component j and axis k of each, then each one's coefficient.

        Components are counted through all degrees; terms are in ascending order of i.
        """
        indices: list[int] = []
        values: list[float] = []
        for degree, raising in enumerate(self.raisings):
            for i, j, k in np.argwhere(raising.transpose(2, 0, 1)):
                indices += [(degree + 1) ** 2 + int(i), degree**2 + int(j), int(k)]
                values.append(float(raising[j, k, i]))
        return indices, values

    @classmethod
    def from_terms(cls, indices: Sequence[int], values: Sequence[float]) -> Self:
        """The table with these `terms`."""
        raisings = [np.zeros((2 * degree + 1, 3, 2 * degree + 3)) for degree in range(highest_degree(indices))]
        for number, value in enumerate(values):
            i, j, k = indices[3 * number : 3 * number + 3]
            degree = math.isqrt(j)
            raisings[degree][j - degree**2, k, i - (degree + 1) ** 2] = value
        return cls(tuple(raisings))


def highest_degree(indices: Sequence[int]) -> int:
    """Highest degree of a table with such terms."""
    return math.isqrt(max(indices[::3], default=0))
