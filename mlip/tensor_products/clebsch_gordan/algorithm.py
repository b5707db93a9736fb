"""What the algorithms share: paths gathered in blocks that are multiplied in one go, and the weights of paths."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlip.tensor_products.backend import Backend
from mlip.tensor_products.clebsch_gordan.tally import Tally
from mlip.tensor_products.couplings import COUPLINGS, Coupling
from mlip.tensor_products.spec import WEIGHT_STRUCTURES, ProductPath, ProductSpec, WeightStructure


@dataclass(frozen=True, eq=False)
class Block:
    """Paths whose products are computed together and, where they have weights, come out one after another.

    Attributes:
        in1: Components of the first operand that enter.
        in2: Components of the second.
        tensor: Coefficients, float64 [components of in1, components of in2, components that come out].
        paths: Numbers of the paths that come out; none where all paths of the spec are summed.
    """

    in1: slice
    in2: slice
    tensor: NDArray[np.float64]
    paths: tuple[int, ...]


class Algorithm(Backend):
    """A way to sum over paths, itself a backend.

    Without weights per path everything is one block, whose product is the result. With them, the paths of a block come
    out apart, are weighted and summed. Subclasses group paths in blocks and say how a block is multiplied.
    """

    couplings: ClassVar[tuple[Coupling, ...]] = COUPLINGS
    weight_structures: ClassVar[tuple[WeightStructure, ...]] = WEIGHT_STRUCTURES

    def __init__(self, spec: ProductSpec) -> None:
        super().__init__(spec)
        if spec.weights == "per_path":
            self.blocks = blocks_of_paths(spec, self.block_of)
        else:
            self.blocks = [Block(slice(0, spec.dims[0]), slice(0, spec.dims[1]), spec.tensor(), ())]

    @staticmethod
    def block_of(path: ProductPath) -> Hashable:
        """Which block a weighted path belongs to: one for each pair of entries of the operands."""
        return path.in1, path.in2

    def forward(self, x: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        if self.spec.weights == "per_path" and weight is not None:
            return self.sum_of_paths(x, y, weight)
        if self.spec.weights == "shared" and weight is not None and self.spec.dims[0] >= self.spec.dims[2]:
            # In place: memory for one more large tensor can cost more than all the arithmetic.
            return self.bilinear(x, y).mul_(weight)
        return super().forward(x, y, weight)

    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        if self.spec.weights == "per_path":
            return self.sum_of_paths(x, y, x.new_ones(1, self.spec.weight_rows, 1))
        return self.multiply(0, x, y)

    def multiply(self, number: int, x: Tensor, y: Tensor) -> Tensor:
        """The product of block `number` of the components that enter it, [batch, components that come out, channels]"""
        raise NotImplementedError

    def sum_of_paths(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """The sum over paths with a weight each, [batch or 1, paths, channels]."""
        sums: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks):
            product = self.multiply(number, x[:, block.in1], y[:, block.in2])
            paths = [self.spec.paths[path] for path in block.paths]
            pieces = product.split([path.irrep_out.dim for path in paths], 1)
            for place, path, piece in zip(block.paths, paths, pieces, strict=True):
                if path.out in sums:
                    sums[path.out].addcmul_(piece, weight[:, place, None])
                else:
                    sums[path.out] = piece * weight[:, place, None]
        return torch.cat([sums[out] for out in range(len(self.spec.irreps_out))], 1)

    def tally(self, channels: int, channels_in2: int) -> Tally:
        """Counts of a forward product. Weights per path count as operations and numbers, no weights among the flops."""
        if self.spec.weights == "per_degree":
            channels_in2 = channels
        total = sum((self.tally_of_block(block, channels, channels_in2) for block in self.blocks), Tally(0))
        if self.spec.weights != "per_path":
            return total
        pieces = sum(path.irrep_out.dim for path in self.spec.paths) * channels
        result = self.spec.dims[2] * channels
        return total + Tally(
            operations=1 + 3 * len(self.spec.paths) + 3 * len(self.blocks),
            elementwise_flops=pieces - result,
            numbers=4 * pieces + result,
        )

    def tally_of_block(self, block: Block, channels: int, channels_in2: int) -> Tally:
        """Counts of `multiply`."""
        raise NotImplementedError

    def flops(self, batch: int, channels: int, channels_in2: int) -> int:
        return batch * self.tally(channels, channels_in2).flops


def blocks_of_paths(spec: ProductSpec, block_of: Callable[[ProductPath], Hashable]) -> list[Block]:
    """Paths in blocks, each with the components of the operands from the first that a path of it needs to the last."""
    groups: dict[Hashable, list[int]] = {}
    for number, path in enumerate(spec.paths):
        groups.setdefault(block_of(path), []).append(number)
    blocks = []
    for numbers in groups.values():
        slices = [spec.slices(spec.paths[number]) for number in numbers]
        in1, in2 = (
            slice(min(each[operand].start for each in slices), max(each[operand].stop for each in slices))
            for operand in (0, 1)
        )
        parts = []
        for number, (first, second, _) in zip(numbers, slices, strict=True):
            coefficients = spec.coefficients(spec.paths[number])
            part = np.zeros((in1.stop - in1.start, in2.stop - in2.start, coefficients.shape[2]))
            part[
                first.start - in1.start : first.stop - in1.start,
                second.start - in2.start : second.stop - in2.start,
            ] = coefficients
            parts.append(part)
        blocks.append(Block(in1, in2, np.concatenate(parts, 2), tuple(numbers)))
    return blocks
