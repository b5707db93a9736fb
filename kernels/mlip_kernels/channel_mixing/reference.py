"""Definition of the mixing of channels in plain torch, one block after another."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlip_kernels.channel_mixing.table import MixingTable, RowGroups


class ReferenceMixing(nn.Module):
    """`y[n, k, :] = factor x[n, k, :] W` for the components k of each block, with the weights of n's group."""

    def __init__(self, table: MixingTable) -> None:
        super().__init__()
        self.table = table

    def forward(self, features: Tensor, weights: Sequence[Tensor], groups: RowGroups | None = None) -> Tensor:
        """Mix.

        Args:
            features: [rows, input_dim].
            weights: Of each block, [channels_in, channels_out], or with groups [groups, channels_in, channels_out].
            groups: The groups of rows.

        Returns:
            [rows, output_dim].
        """
        output = features.new_zeros(len(features), self.table.output_dim)
        for block, weight in zip(self.table.blocks, weights, strict=True):
            width = block.components * block.channels_in
            source = features[:, block.input_offset : block.input_offset + width]
            rows = source.unflatten(1, (block.components, block.channels_in))
            if groups is None:
                mixed = rows @ weight
            else:
                numbers = torch.repeat_interleave(torch.tensor(groups.counts, device=features.device))
                mixed = torch.empty_like(rows[..., :1]).expand(-1, -1, block.channels_out).clone()
                mixed[groups.order] = rows[groups.order] @ weight[numbers]
            end = block.output_offset + block.components * block.channels_out
            output[:, block.output_offset : end] = block.factor * mixed.flatten(1)
        return output
