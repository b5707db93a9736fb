"""Where the knots of a radial table stand."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

# A spline's natural ends are wrong by about h^2 f''/6, and each spacing away from them takes a factor of 2 - sqrt(3):
# after eight, 3e-5 of it is left.
_MARGIN = 8


@dataclass(frozen=True)
class KnotGrid:
    """Equally spaced knots, at each of which a cubic B-spline is centred.

    Attributes:
        origin: First knot, Å.
        spacing: Distance of neighbouring knots, Å.
        knots: Number of knots, at least 4.
    """

    origin: float
    spacing: float
    knots: int

    def __post_init__(self) -> None:
        if not (self.spacing > 0 and self.knots >= 4):
            raise ValueError(
                f"a radial table has {self.knots} knots at a spacing of {self.spacing} Å: "
                "give at least 4 knots at a positive spacing."
            )

    @classmethod
    def covering(cls, cutoff: float, intervals: int) -> Self:
        """Knots that part distances from 0 to the cutoff into so many intervals, and a few more on either side."""
        if not (cutoff > 0 and intervals >= 1):
            raise ValueError(
                f"a radial table has {intervals} intervals up to {cutoff} Å: "
                "give at least one up to a positive distance."
            )
        spacing = cutoff / intervals
        return cls(-_MARGIN * spacing, spacing, intervals + 1 + 2 * _MARGIN)

    def positions(self) -> Tensor:
        """The knots, Å, float64 [knots]; some are negative."""
        return self.origin + self.spacing * torch.arange(self.knots, dtype=torch.float64)
