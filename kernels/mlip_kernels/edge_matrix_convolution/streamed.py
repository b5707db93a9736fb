"""The edge-matrix convolution over short runs of edges."""

import torch
from torch import Tensor, nn

from mlip_kernels.edges import EdgeTopology
from mlip_kernels.streaming import convolve


class StreamedEdgeMatrixConvolution(nn.Module):
    """The function of `ReferenceEdgeMatrixConvolution` in memory that grows with atoms and edges, not their product."""

    def forward(self, features: Tensor, matrices: Tensor, weights: Tensor, edges: EdgeTopology) -> Tensor:
        """Convolve; arguments and result are those of `ReferenceEdgeMatrixConvolution.forward`."""
        return convolve(_MatrixMessages(), features, matrices, weights, edges)


class _MatrixMessages:
    """Filters [edges, rows, out, in], weights [edges, rows, channels], features [edges, in, copies, channels].

    The message of all rows is one matrix product, `[out, rows * in] @ [rows * in, copies * channels]`.
    """

    def numbers(self, filters: Tensor, weights: Tensor, sent: Tensor) -> int:
        return weights.shape[1] * sent.shape[1] * sent.shape[2] * sent.shape[3]

    def shape(self, filters: Tensor, sent: Tensor) -> tuple[int, ...]:
        return (filters.shape[2], *sent.shape[2:])

    def messages(self, filters: Tensor, weights: Tensor, sent: Tensor) -> Tensor:
        return torch.bmm(_wide(filters), _weighted(weights, sent)).unflatten(2, sent.shape[2:])

    def gradients(self, filters: Tensor, weights: Tensor, sent: Tensor, received: Tensor) -> tuple[Tensor, Tensor]:
        gradients = received.flatten(2)
        of_filters = torch.bmm(gradients, _weighted(weights, sent).transpose(1, 2))
        back = torch.bmm(_wide(filters).transpose(1, 2), gradients).view(*weights.shape[:2], *sent.shape[1:])
        rows = of_filters.unflatten(2, (weights.shape[1], sent.shape[1])).transpose(1, 2)
        return rows, back.mul_(sent[:, None]).sum((2, 3))

    def transposed(self, filters: Tensor) -> Tensor:
        return filters.transpose(2, 3)


def _wide(filters: Tensor) -> Tensor:
    """Matrices of all rows beside each other, [edges, out, rows * in]."""
    return filters.transpose(1, 2).flatten(2)


def _weighted(weights: Tensor, sent: Tensor) -> Tensor:
    """Features sent, weighted for each row, [edges, rows * in, copies * channels]."""
    return (weights[:, :, None, None] * sent[:, None]).flatten(3).flatten(1, 2)
