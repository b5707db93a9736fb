"""Functions of the distance from tables: uniform cubic B-splines with many columns, and all their derivatives.

`reference` holds the definition in plain torch, `cpu` and `gpu` the kernels, `op` binds them to torch.
"""

from torch import nn

from mlip_kernels.radial_table.grid import KnotGrid
from mlip_kernels.radial_table.op import KernelRadialTable, spline_coefficients
from mlip_kernels.radial_table.reference import ReferenceRadialTable

IMPLEMENTATIONS: dict[str, type[nn.Module]] = {"reference": ReferenceRadialTable, "kernel": KernelRadialTable}

__all__ = ["IMPLEMENTATIONS", "KernelRadialTable", "KnotGrid", "ReferenceRadialTable", "spline_coefficients"]
