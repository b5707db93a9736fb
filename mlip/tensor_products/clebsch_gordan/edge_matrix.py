"""Algorithm `edge_matrix`: the second operand and the coefficients give a matrix that multiplies the first operand."""

from collections.abc import Hashable

import numpy as np
import torch
from torch import Tensor

from mlip.tensor_products.clebsch_gordan.algorithm import Algorithm, Block
from mlip.tensor_products.clebsch_gordan.tally import Tally, tally_of_products
from mlip.tensor_products.spec import ProductPath, ProductSpec


class EdgeMatrix(Algorithm):
    """The matrices K = y C, [d3, d1] for each row, times x.

    Where y has one channel, K is the same for all channels of x: it is formed once, and one batched matrix product
    `[d3, d1] @ [d1, channels]` does the rest. Where y has channels of its own, K is never formed as a whole: its
    columns, or those of x C if they are fewer, are computed one at a time for all channels.

    Weights per path scale what has fewer components, what enters the batched products or what comes out of them.
    Weights per degree scale the columns of x once for each entry of irreps_in2, so that K has one channel still.
    """

    def __init__(self, spec: ProductSpec) -> None:
        super().__init__(spec)
        for number, block in enumerate(self.blocks):
            self.register_constant(f"coefficients_{number}", torch.tensor(block.tensor.transpose(1, 0, 2).copy()))
        entering = sum(path.irrep_in1.dim for path in spec.paths)
        leaving = sum(path.irrep_out.dim for path in spec.paths)
        self.weights_enter = spec.weights == "per_path" and entering <= leaving
        self.paths_to = [
            [number for number, path in enumerate(spec.paths) if path.out == out] for out in range(len(spec.irreps_out))
        ]
        if self.weights_enter:
            for out, numbers in enumerate(self.paths_to):
                self.register_constant(f"entering_{out}", torch.tensor(_stacked(spec, numbers)))

    @staticmethod
    def block_of(path: ProductPath) -> Hashable:
        return path.in1

    def forward(self, x: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        if weight is not None and y.shape[2] == 1:
            if self.weights_enter:
                return self.weighted_paths(x, y, weight)
            if self.spec.weights == "per_degree":
                return self.weighted_degrees(x, y, weight)
        return super().forward(x, y, weight)

    def multiply(self, number: int, x: Tensor, y: Tensor) -> Tensor:
        coefficients = self.constant(f"coefficients_{number}", x)
        if y.shape[2] == 1:
            return _apply(_matrices(y, coefficients), x)
        d2, d1, d3 = coefficients.shape
        total = x.new_zeros(len(x), d3, x.shape[2])
        if d1 <= d2:
            for i in range(d1):
                total.addcmul_(torch.matmul(coefficients[:, i].T, y), x[:, i, None])
        else:
            for j in range(d2):
                total.addcmul_(torch.matmul(coefficients[j].T, x), y[:, j, None])
        return total

    def weighted_paths(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """One batched product for each entry of the result, over all components that enter it, weighted."""
        results = []
        for out, numbers in enumerate(self.paths_to):
            entering = torch.cat(
                [x[:, self.spec.slices(self.spec.paths[number])[0]] * weight[:, number, None] for number in numbers], 1
            )
            matrices = _matrices(y, self.constant(f"entering_{out}", x))
            results.append(_apply(matrices, entering))
        return torch.cat(results, 1)

    def weighted_degrees(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """One batched product `[d3, N2 * d1] @ [N2 * d1, channels]` for the N2 entries of irreps_in2."""
        of_in1, of_in2, of_out = weight.split([len(irreps) for irreps in self.spec.operands], 1)
        rows_in1, rows_out = (self.get_buffer(f"rows_{name}").to(x.device) for name in ("in1", "out"))
        entering = (x * of_in1.index_select(1, rows_in1))[:, None] * of_in2[:, :, None]
        widths = [irrep.dim for irrep in self.spec.irreps_in2]
        coefficients = self.constant("coefficients_0", x).split(widths)
        matrices = torch.cat(
            [_matrices(entry, part) for entry, part in zip(y.split(widths, 1), coefficients, strict=True)], 1
        )
        return _apply(matrices, entering.flatten(1, 2)).mul_(of_out.index_select(1, rows_out))

    def tally(self, channels: int, channels_in2: int) -> Tally:
        d1, d2, d3 = self.spec.dims
        if channels_in2 == 1 and self.spec.weights == "per_degree":
            entries = len(self.spec.irreps_in2)
            matrices = Tally(3 + 5 * entries, matrix_flops=2 * d2 * d1 * d3, numbers=d2 + 3 * entries * d1 * d3)
            weighting = Tally(12, numbers=(1 + entries) * d1 * channels, temporary=entries * d1 * channels)
            return matrices + weighting + _tally_of_application(entries * d1, d3, channels)
        if channels_in2 == 1 and self.weights_enter:
            total = Tally(1, numbers=2 * d3 * channels)
            for out, numbers in enumerate(self.paths_to):
                entering = sum(self.spec.paths[number].irrep_in1.dim for number in numbers)
                width = self.spec.irreps_out[out].dim
                total += Tally(1 + 5 * len(numbers), numbers=5 * entering * channels, temporary=entering * channels)
                total += _tally_of_matrices(d2, entering, width) + _tally_of_application(entering, width, channels)
            return total
        return super().tally(channels, channels_in2)

    def tally_of_block(self, block: Block, channels: int, channels_in2: int) -> Tally:
        d1, d2, d3 = block.tensor.shape
        if channels_in2 == 1:
            return _tally_of_matrices(d2, d1, d3) + _tally_of_application(d1, d3, channels)
        rounds, other = min(d1, d2), max(d1, d2)
        one_round = tally_of_products(d3, other, channels) + Tally(
            4, elementwise_flops=2 * d3 * channels, numbers=(3 * d3 + 1) * channels
        )
        return sum([one_round] * rounds, Tally(1, numbers=d3 * channels))


def _matrices(y: Tensor, coefficients: Tensor) -> Tensor:
    """Transposed matrices, [batch, d1, d3], of y [batch, d2, 1] and coefficients [d2, d1, d3]."""
    return (y[:, :, 0] @ coefficients.flatten(1)).unflatten(1, coefficients.shape[1:])


def _apply(matrices: Tensor, x: Tensor) -> Tensor:
    """Transposed matrices [batch, d1, d3] applied to [batch, d1, channels]."""
    if x.shape[1] == 1:
        # The product of a column and a row, which takes several times as long as a matrix product.
        return matrices.transpose(1, 2) * x
    return torch.bmm(matrices.transpose(1, 2), x)


def _tally_of_matrices(d2: int, d1: int, d3: int) -> Tally:
    return Tally(5, matrix_flops=2 * d2 * d1 * d3, numbers=d2 + d1 * d3)


def _tally_of_application(d1: int, d3: int, channels: int) -> Tally:
    if d1 == 1:
        return Tally(1, elementwise_flops=d3 * channels, numbers=d3 + (1 + d3) * channels)
    return tally_of_products(d3, d1, channels)


def _stacked(spec: ProductSpec, numbers: list[int]) -> np.ndarray:
    """Coefficients of paths to one entry of the result, their first operands one after another, [d2, sum of d1, d3]."""
    parts = []
    for number in numbers:
        coefficients = spec.coefficients(spec.paths[number])
        part = np.zeros((spec.dims[1], coefficients.shape[0], coefficients.shape[2]))
        part[spec.slices(spec.paths[number])[1]] = coefficients.transpose(1, 0, 2)
        parts.append(part)
    return np.concatenate(parts, 1)
