"""The channelwise convolution as batched matrix products over blocks of edges."""

import torch
from torch import Tensor

from mlip_kernels.channelwise_convolution.table import ConvolutionPath, ConvolutionTable, columns
from mlip_kernels.constants import ConstantModule
from mlip_kernels.edges import EdgeBlocks, EdgeTopology


class BlockedConvolution(ConstantModule):
    """The function of `ReferenceConvolution`, the sum over neighbours done inside matrix products.

    One product of the harmonics with all coupling coefficients gives, per edge, the matrices that take an input irrep
    to an output irrep. They are shared by all channels, so that a path is, for each block of edges of one receiver,
    `[2*l3+1, edges * (2*l1+1)] @ [edges * (2*l1+1), channels]`: messages are never formed.
    """

    couplings: Tensor

    def __init__(self, table: ConvolutionTable) -> None:
        super().__init__()
        self.table = table
        couplings = []
        for path in table.paths:
            rows, columns, components = path.coefficients.shape
            coupling = torch.zeros(table.harmonics_dim, components * rows, dtype=torch.float64)
            flat = torch.tensor(path.coefficients).permute(1, 2, 0).reshape(columns, components * rows)
            coupling[path.harmonic_offset : path.harmonic_offset + columns] = flat
            couplings.append(coupling)
        self.widths = [coupling.shape[1] for coupling in couplings]
        self.register_constant("couplings", torch.cat(couplings, 1))

    def forward(self, features: Tensor, harmonics: Tensor, weights: Tensor, edges: EdgeTopology) -> Tensor:
        """Convolve; arguments and result are those of `ReferenceConvolution.forward`."""
        blocks = edges.blocks
        senders = edges.senders
        if blocks.edges is not None and blocks.occupied is not None:
            senders = senders[blocks.edges]
            weights = weights.index_select(0, blocks.edges)
            harmonics = harmonics.index_select(0, blocks.edges) * blocks.occupied.to(harmonics.dtype)
        table = self.table
        sent = columns(features.index_select(0, senders), (path.input_span for path in table.paths))
        weighing = columns(weights, (path.weight_span for path in table.paths))
        matrices = (harmonics @ self.couplings).split(self.widths, 1)
        outputs: list[Tensor] = []
        row: list[Tensor] = []
        for number, path in enumerate(table.paths):
            x, weight = sent[path.input_span], weighing[path.weight_span]
            row.append(self._path(path, x, matrices[number], weight, blocks))
            if path.output_channel + path.channels == path.output_channels:
                outputs.append(torch.cat(row, 2).flatten(1))
                row = []
        output = torch.cat(outputs, 1)
        if blocks.one_block_per_node:
            return output
        return output.new_zeros(edges.num_nodes, output.shape[1]).index_add(0, blocks.receivers, output)

    def _path(self, path: ConvolutionPath, x: Tensor, matrices: Tensor, weight: Tensor, blocks: EdgeBlocks) -> Tensor:
        """One path's sums over the edges of each block, [blocks, 2*l3+1, channels]."""
        rows, _, components = path.coefficients.shape
        num_blocks = blocks.receivers.shape[0]
        weighted = x.unflatten(1, (rows, path.channels)) * weight[:, None, :]
        left = matrices.view(num_blocks, blocks.size, components, rows).transpose(1, 2)
        left = left.reshape(num_blocks, components, blocks.size * rows)
        return torch.bmm(left, weighted.view(num_blocks, blocks.size * rows, path.channels))
