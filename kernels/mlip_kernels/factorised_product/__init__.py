"""Products in a space where they are pointwise: a grid on the sphere, a Fourier torus, the ranks of a CP fit.

`reference` holds the definition in plain torch, `cpu` and `gpu` the kernels, `op` binds them to torch.
"""

from torch import nn

from mlip_kernels.factorised_product.op import KernelFactorisedProduct
from mlip_kernels.factorised_product.reference import ReferenceFactorisedProduct

IMPLEMENTATIONS: dict[str, type[nn.Module]] = {
    "reference": ReferenceFactorisedProduct,
    "kernel": KernelFactorisedProduct,
}

__all__ = ["IMPLEMENTATIONS", "KernelFactorisedProduct", "ReferenceFactorisedProduct"]
