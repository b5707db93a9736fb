"""Constants and functions of the rotation group, in float64."""

from mlip.so3.couplings import bracket, gaunt, wigner_3j

__all__ = ["bracket", "gaunt", "wigner_3j"]
