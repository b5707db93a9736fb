"""Which part of 1/r a sum over a list of pairs has."""

from typing import NamedTuple

# Beyond so many widths after the cutoff the complementary error function is less than what rounding leaves of 1.
_WIDTHS = 5.5


class Screening(NamedTuple):
    """The potential erfc(alpha r) / r of a unit charge, times erfc((r - cutoff) / width) / 2, which ends the list.

    The second factor makes it an analytic function that vanishes, but for rounding, beyond `reach`. So energies and
    forces are smooth where pairs enter and leave a list, and do not depend on which pairs from beyond it has.

    Attributes:
        alpha: Inverse length of the screening, 1/Å.
        cutoff: Where half is left, Å.
        width: Å.
    """

    alpha: float
    cutoff: float
    width: float

    @property
    def reach(self) -> float:
        """The distance of the farthest pairs that count, Å."""
        return self.cutoff + _WIDTHS * self.width
