"""Algorithm `sparse`: the coefficients that are not zero, one after another."""

import numpy as np
import torch
from torch import Tensor

from mlip.tensor_products.clebsch_gordan.algorithm import Algorithm, Block
from mlip.tensor_products.clebsch_gordan.tally import Tally
from mlip.tensor_products.spec import ProductSpec

# Coefficients below this are rounding.
_ZERO = 1e-12


class Sparse(Algorithm):
    """Rounds of one coefficient for each component of the result: gather its two factors, multiply, add.

    Nothing larger than the result is ever formed. Components that have fewer coefficients than others are given zeros.
    """

    def __init__(self, spec: ProductSpec) -> None:
        super().__init__(spec)
        for number, block in enumerate(self.blocks):
            in1, in2, coefficients = _rounds(block.tensor)
            self.register_buffer(f"in1_{number}", torch.tensor(in1), persistent=False)
            self.register_buffer(f"in2_{number}", torch.tensor(in2), persistent=False)
            self.register_constant(f"coefficients_{number}", torch.tensor(coefficients)[:, :, None])

    def multiply(self, number: int, x: Tensor, y: Tensor) -> Tensor:
        coefficients = self.constant(f"coefficients_{number}", x)
        in1, in2 = (self.get_buffer(f"{name}_{number}").to(x.device) for name in ("in1", "in2"))
        total = x.new_zeros(len(x), coefficients.shape[1], x.shape[2])
        for first, second, factor in zip(in1, in2, coefficients, strict=True):
            total.addcmul_(x.index_select(1, first), y.index_select(1, second) * factor)
        return total

    def tally_of_block(self, block: Block, channels: int, channels_in2: int) -> Tally:
        rounds = int(np.count_nonzero(np.abs(block.tensor) > _ZERO, axis=(0, 1)).max())
        of_x, of_y = (block.tensor.shape[2] * each for each in (channels, channels_in2))
        return Tally(
            operations=6 + 4 * rounds,
            elementwise_flops=rounds * (2 * of_x + of_y),
            numbers=of_x + rounds * 5 * (of_x + of_y),
        )


def _rounds(tensor: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places of both factors, int64, and coefficients, float64, of every component in every round, [rounds, d3]."""
    in1, in2, out = np.nonzero(np.abs(tensor) > _ZERO)
    order = np.argsort(out, kind="stable")
    in1, in2, out = in1[order], in2[order], out[order]
    counts = np.bincount(out, minlength=tensor.shape[2])
    turn = np.arange(len(out)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (counts.max(), tensor.shape[2])
    places1, places2, coefficients = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape)
    places1[turn, out], places2[turn, out], coefficients[turn, out] = in1, in2, tensor[in1, in2, out]
    return places1, places2, coefficients
