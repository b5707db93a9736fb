"""Many-body products: symmetric powers of atom features, contracted with element-dependent weights.

`reference` holds the definition, `monomials` the same function by shared monomials and matrix products, and `op` the
programs of `cpu` as torch operations.
"""

from torch import nn

from mlip_kernels.symmetric_contraction.monomials import MonomialContraction
from mlip_kernels.symmetric_contraction.op import KernelContraction
from mlip_kernels.symmetric_contraction.reference import ReferenceContraction
from mlip_kernels.symmetric_contraction.table import ContractionTable, ContractionTerm

IMPLEMENTATIONS: dict[str, type[nn.Module]] = {
    "reference": ReferenceContraction,
    "monomials": MonomialContraction,
    "kernel": KernelContraction,
}

__all__ = [
    "IMPLEMENTATIONS",
    "ContractionTable",
    "ContractionTerm",
    "KernelContraction",
    "MonomialContraction",
    "ReferenceContraction",
]
