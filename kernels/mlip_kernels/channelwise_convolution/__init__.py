"""Convolution of atom features with edge harmonics, one weight per path and channel, summed over the neighbours.

`reference` holds the definition, `blocked` the same function as batched matrix products over blocks of edges, `escn`
the same in frames in which every edge points to the pole, for couplings that are invariant under rotations, and `op`
the programs of `cpu` as torch operations.
"""

from torch import nn

from mlip_kernels.channelwise_convolution.blocked import BlockedConvolution
from mlip_kernels.channelwise_convolution.escn import ESCNConvolution
from mlip_kernels.channelwise_convolution.op import KernelConvolution
from mlip_kernels.channelwise_convolution.reference import ReferenceConvolution
from mlip_kernels.channelwise_convolution.table import ConvolutionPath, ConvolutionTable

IMPLEMENTATIONS: dict[str, type[nn.Module]] = {
    "reference": ReferenceConvolution,
    "blocked": BlockedConvolution,
    "escn": ESCNConvolution,
    "kernel": KernelConvolution,
}

__all__ = [
    "IMPLEMENTATIONS",
    "BlockedConvolution",
    "ConvolutionPath",
    "ConvolutionTable",
    "ESCNConvolution",
    "KernelConvolution",
    "ReferenceConvolution",
]
