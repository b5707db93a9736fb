"""The boxes of open directions, which hold still while charges move.

The basis belongs to the box. A box that followed the charges would change the energy, by as much as the tolerance,
without a force; so a box has lengths from a coarse scale and room to spare, and is kept while charges stay inside.
"""

import math
from dataclasses import dataclass

# Room on each side, a part of the length of what is inside, and at least so many Å.
_MARGIN = 0.02
_LEAST_MARGIN = 0.5
_STEPS_PER_DOUBLING = 16
# A box is left when what is inside could do with one so much shorter.
_GENEROUS = 0.8


@dataclass(frozen=True)
class Interval:
    """The box along one direction.

    Attributes:
        centre: Its middle, Å.
        length: Å.
    """

    centre: float
    length: float

    def suits(self, lowest: float, highest: float) -> bool:
        """Whether it holds an interval, and not much beside."""
        half = self.length / 2
        inside = self.centre - half <= lowest and highest <= self.centre + half
        return inside and interval(lowest, highest).length >= _GENEROUS * self.length


def interval(lowest: float, highest: float) -> Interval:
    """The box around an interval."""
    extent = highest - lowest
    needed = extent + 2 * max(_MARGIN * extent, _LEAST_MARGIN)
    step = 2.0 ** math.floor(math.log2(needed)) / _STEPS_PER_DOUBLING
    return Interval((lowest + highest) / 2, math.ceil(needed / step) * step)
