"""The edge-matrix convolution as batched matrix products over blocks of edges."""

import torch
from torch import Tensor, nn

from mlip_kernels.edges import EdgeTopology


class BlockedEdgeMatrixConvolution(nn.Module):
    """The function of `ReferenceEdgeMatrixConvolution`, the sums over neighbours and rows done in matrix products.

    For each block of edges of one receiver it is
    `[components out, edges * rows * components in] @ [edges * rows * components in, copies * channels]`.
    """

    def forward(self, features: Tensor, matrices: Tensor, weights: Tensor, edges: EdgeTopology) -> Tensor:
        """Convolve; arguments and result are those of `ReferenceEdgeMatrixConvolution.forward`."""
        blocks = edges.blocks
        senders = edges.senders
        if blocks.edges is not None and blocks.occupied is not None:
            senders = senders[blocks.edges]
            weights = weights.index_select(0, blocks.edges)
            matrices = matrices.index_select(0, blocks.edges) * blocks.occupied.to(matrices.dtype)[:, :, None, None]
        num_blocks = len(blocks.receivers)
        _, rows, components_out, components_in = matrices.shape
        _, _, copies, channels = features.shape
        left = matrices.view(num_blocks, blocks.size, rows, components_out, components_in).permute(0, 3, 1, 2, 4)
        sent = features.index_select(0, senders)
        right = sent[:, None] * weights[:, :, None, None, :]
        inner = blocks.size * rows * components_in
        sums = torch.bmm(
            left.reshape(num_blocks, components_out, inner), right.reshape(num_blocks, inner, copies * channels)
        ).unflatten(2, (copies, channels))
        if blocks.one_block_per_node:
            return sums
        return sums.new_zeros(edges.num_nodes, *sums.shape[1:]).index_add(0, blocks.receivers, sums)
