"""Constants and functions of the rotation group, in float64."""

from mlip.so3.couplings import bracket, gaunt, wigner_3j
from mlip.so3.spherical_harmonics import spherical_harmonics, spherical_harmonics_with_gradients

__all__ = ["bracket", "gaunt", "spherical_harmonics", "spherical_harmonics_with_gradients", "wigner_3j"]
