"""Convolution in a space where products are pointwise: a grid on the sphere, a Fourier torus, the ranks of a CP fit.

`reference` holds the definition, `streamed` the same function over short runs of edges, without keeping their products,
`cpu` and `gpu` the kernels, which `op` binds to torch.
"""

from torch import nn

from mlip_kernels.factorised_convolution.op import KernelFactorisedConvolution
from mlip_kernels.factorised_convolution.reference import ReferenceFactorisedConvolution
from mlip_kernels.factorised_convolution.streamed import StreamedFactorisedConvolution

IMPLEMENTATIONS: dict[str, type[nn.Module]] = {
    "reference": ReferenceFactorisedConvolution,
    "streamed": StreamedFactorisedConvolution,
    "kernel": KernelFactorisedConvolution,
}

__all__ = [
    "IMPLEMENTATIONS",
    "KernelFactorisedConvolution",
    "ReferenceFactorisedConvolution",
    "StreamedFactorisedConvolution",
]
