"""Real spherical harmonics of the directions of vectors, degrees 0 … l_max, from their recursion's coefficients.

`reference` holds the definition in plain torch, `cpu` and `gpu` the kernels, `op` binds them to torch.
"""

from torch import nn

from mlip_kernels.spherical_harmonics.op import KernelSphericalHarmonics
from mlip_kernels.spherical_harmonics.reference import ReferenceSphericalHarmonics
from mlip_kernels.spherical_harmonics.table import HarmonicsTable

IMPLEMENTATIONS: dict[str, type[nn.Module]] = {
    "reference": ReferenceSphericalHarmonics,
    "kernel": KernelSphericalHarmonics,
}

__all__ = ["IMPLEMENTATIONS", "HarmonicsTable", "KernelSphericalHarmonics", "ReferenceSphericalHarmonics"]
