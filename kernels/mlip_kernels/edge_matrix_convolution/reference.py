"""Definition of the edge-matrix convolution in plain torch."""

import torch
from torch import Tensor, nn

from mlip_kernels.edges import EdgeTopology


class ReferenceEdgeMatrixConvolution(nn.Module):
    """`out[n, k, a, c] = sum over edges e into n, over l and i, of K[e, l, k, i] w[e, l, c] x[sender(e), i, a, c]`."""

    def forward(self, features: Tensor, matrices: Tensor, weights: Tensor, edges: EdgeTopology) -> Tensor:
        """Convolve.

        Args:
            features: x, [nodes, components in, copies, channels]; copies share matrices and weights.
            matrices: K, [edges, rows, components out, components in].
            weights: w, [edges, rows, channels].
            edges: Senders and receivers.

        Returns:
            Sums over neighbours, [nodes, components out, copies, channels].
        """
        messages = torch.einsum("elki,elc,eiac->ekac", matrices, weights, features[edges.senders])
        return features.new_zeros(edges.num_nodes, *messages.shape[1:]).index_add(0, edges.receivers, messages)
