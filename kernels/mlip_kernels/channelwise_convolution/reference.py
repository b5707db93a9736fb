"""Definition of the channelwise convolution in plain torch, one path after another."""

import torch
from torch import Tensor

from mlip_kernels.channelwise_convolution.table import ConvolutionTable
from mlip_kernels.constants import ConstantModule
from mlip_kernels.edges import EdgeTopology


class ReferenceConvolution(ConstantModule):
    """`out[r, k, c] = sum over edges e into r, over i and j, of C[i, j, k] weight[e, c] x[sender(e), i, c] y[e, j]`.

    Readable and slow: every path's messages are formed for all edges.
    """

    def __init__(self, table: ConvolutionTable) -> None:
        super().__init__()
        self.table = table
        for number, path in enumerate(table.paths):
            self.register_constant(f"coefficients_{number}", torch.tensor(path.coefficients))

    def forward(self, features: Tensor, harmonics: Tensor, weights: Tensor, edges: EdgeTopology) -> Tensor:
        """Convolve.

        Args:
            features: Atom features, [nodes, input_dim], channel-last per irrep.
            harmonics: Edge harmonics, [edges, harmonics_dim].
            weights: Edge weights, [edges, weight_dim].
            edges: Senders and receivers.

        Returns:
            Sums over neighbours, [nodes, output_dim], channel-last per irrep.
        """
        output = features.new_zeros(edges.num_nodes, self.table.output_dim)
        for number, path in enumerate(self.table.paths):
            coefficients = getattr(self, f"coefficients_{number}")
            rows, columns, components = coefficients.shape
            x = features[edges.senders, path.input_offset : path.input_offset + rows * path.channels]
            y = harmonics[:, path.harmonic_offset : path.harmonic_offset + columns]
            weight = weights[:, path.weight_offset : path.weight_offset + path.channels]
            x = x.reshape(-1, rows, path.channels)
            message = torch.einsum("eic,ej,ec,ijk->ekc", x, y, weight, coefficients)
            component = torch.arange(components, device=features.device)[:, None] * path.output_channels
            channel = torch.arange(path.channels, device=features.device)[None, :] + path.output_channel
            position = (path.output_offset + component + channel).reshape(-1)
            total = message.new_zeros(edges.num_nodes, position.numel())
            total = total.index_add(0, edges.receivers, message.reshape(-1, position.numel()))
            output = output.index_add(1, position, total)
        return output
