"""Tables for the tests of spherical harmonics."""

import math

from mlip.so3 import wigner_3j
from mlip_kernels.spherical_harmonics import HarmonicsTable


def harmonics_table(l_max: int) -> HarmonicsTable:
    """The table of e3nn's harmonics of component normalisation, which are sqrt(2*l + 1) at the pole."""
    raisings = []
    for degree in range(l_max):
        coupling = wigner_3j(degree, 1, degree + 1)
        ratio = math.sqrt((2 * degree + 3) / (2 * degree + 1))
        raisings.append(ratio / coupling[degree, 1, degree + 1] * coupling)
    return HarmonicsTable(tuple(raisings))
