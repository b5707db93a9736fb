"""The factorised convolution over short runs of edges."""

import torch
from torch import Tensor, nn

from mlip_kernels.edges import EdgeTopology
from mlip_kernels.streaming import convolve


class StreamedFactorisedConvolution(nn.Module):
    """The function of `ReferenceFactorisedConvolution` in memory that grows with atoms and edges, not their product."""

    def forward(self, values: Tensor, filters: Tensor, weights: Tensor, edges: EdgeTopology) -> Tensor:
        """Convolve; arguments and result are those of `ReferenceFactorisedConvolution.forward`."""
        return convolve(_PointwiseMessages(), values, filters, weights, edges)


class _PointwiseMessages:
    """Filters [edges, rows, points], weights [edges, rows, channels], messages [edges, points, channels]."""

    def numbers(self, filters: Tensor, weights: Tensor, sent: Tensor) -> int:
        return filters.shape[2] * weights.shape[2]

    def shape(self, filters: Tensor, sent: Tensor) -> tuple[int, ...]:
        return tuple(sent.shape[1:])

    def messages(self, filters: Tensor, weights: Tensor, sent: Tensor) -> Tensor:
        return torch.bmm(filters.transpose(1, 2), weights).mul_(sent)

    def gradients(self, filters: Tensor, weights: Tensor, sent: Tensor, received: Tensor) -> tuple[Tensor, Tensor]:
        products = sent.mul_(received)
        return torch.bmm(weights, products.transpose(1, 2)), torch.bmm(filters, products)

    def transposed(self, filters: Tensor) -> Tensor:
        return filters
