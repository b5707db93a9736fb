"""Operands of a convolution whose channels do not fill whole vectors, copied to and from a table where they do."""

import torch
from torch import Tensor

from mlip_kernels.channelwise_convolution.table import ConvolutionTable


class PaddedColumns:
    """Copies operands to and from a table whose channels fill whole vectors."""

    def __init__(self, table: ConvolutionTable, padded: ConvolutionTable) -> None:
        pairs = list(zip(table.paths, padded.paths, strict=True))
        inputs, weights, outputs = {}, {}, {}
        for path, wide in pairs:
            rows, _, components = path.coefficients.shape
            for c in range(path.channels):
                weights[path.weight_offset + c] = wide.weight_offset + c
                for i in range(rows):
                    inputs[path.input_offset + i * path.channels + c] = wide.input_offset + i * wide.channels + c
                for k in range(components):
                    column = path.output_offset + k * path.output_channels + path.output_channel + c
                    outputs[column] = wide.output_offset + k * wide.output_channels + wide.output_channel + c
        self.input = ColumnMap(inputs, table.input_dim, padded.input_dim)
        self.weight = ColumnMap(weights, table.weight_dim, padded.weight_dim)
        self.output = ColumnMap(outputs, table.output_dim, padded.output_dim)


class ColumnMap:
    """Where each column of a table stands in the padded one."""

    def __init__(self, places: dict[int, int], columns: int, padded: int) -> None:
        self.columns = columns
        self.padded = padded
        self.narrow = torch.tensor(list(places), dtype=torch.int64)
        self.wide = torch.tensor(list(places.values()), dtype=torch.int64)

    def pad(self, values: Tensor) -> Tensor:
        """Columns of whole vectors, zero where there is no channel."""
        return values.new_zeros(len(values), self.padded).index_copy_(1, self.wide, values.index_select(1, self.narrow))

    def cut(self, values: Tensor) -> Tensor:
        """Back to the columns of the table; zero where no path has one."""
        return values.new_zeros(len(values), self.columns).index_copy_(
            1, self.narrow, values.index_select(1, self.wide)
        )
