"""Definition of the factorised convolution in plain torch."""

import torch
from torch import Tensor, nn

from mlip_kernels.edges import EdgeTopology


class ReferenceFactorisedConvolution(nn.Module):
    """`out[n, p, c] = sum over edges e into n of u[sender(e), p, c] sum_l v[e, l, p] w[e, l, c]`."""

    def forward(self, values: Tensor, filters: Tensor, weights: Tensor, edges: EdgeTopology) -> Tensor:
        """Convolve.

        Args:
            values: u, the atoms' features at each point, [nodes, points, channels].
            filters: v, the parts of the edges' filters that all channels share, [edges, rows, points].
            weights: w, their weights, [edges, rows, channels].
            edges: Senders and receivers.

        Returns:
            Sums over neighbours, [nodes, points, channels].
        """
        messages = values[edges.senders] * torch.einsum("elp,elc->epc", filters, weights)
        return values.new_zeros(edges.num_nodes, *values.shape[1:]).index_add(0, edges.receivers, messages)
