"""Constants and functions of the rotation group, in float64."""

from mlip.so3.couplings import bracket, gaunt, matrix_coupling, wigner_3j
from mlip.so3.fourier import fourier_coefficients, fourier_projection
from mlip.so3.grids import SphereGrid, sphere_grid
from mlip.so3.paths import CouplingPath, coupling_paths
from mlip.so3.rotations import rotation_matrices
from mlip.so3.spherical_harmonics import solid_harmonics, spherical_harmonics, spherical_harmonics_with_gradients
from mlip.so3.symmetric_products import SymmetricBasis, symmetric_product_basis

__all__ = [
    "CouplingPath",
    "SphereGrid",
    "SymmetricBasis",
    "bracket",
    "coupling_paths",
    "fourier_coefficients",
    "fourier_projection",
    "gaunt",
    "matrix_coupling",
    "rotation_matrices",
    "solid_harmonics",
    "sphere_grid",
    "spherical_harmonics",
    "spherical_harmonics_with_gradients",
    "symmetric_product_basis",
    "wigner_3j",
]
