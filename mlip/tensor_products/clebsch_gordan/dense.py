"""Algorithm `dense`: all products of components, then one matrix product."""

import torch
from torch import Tensor

from mlip.tensor_products.clebsch_gordan.algorithm import Algorithm, Block
from mlip.tensor_products.clebsch_gordan.tally import Tally, tally_of_products
from mlip.tensor_products.spec import ProductSpec


class Dense(Algorithm):
    """Outer products of the operands' components, [batch, d1 * d2, channels], times the matrix of all coefficients.

    Fewest calls, and most memory.
    """

    def __init__(self, spec: ProductSpec) -> None:
        super().__init__(spec)
        for number, block in enumerate(self.blocks):
            d1, d2, d3 = block.tensor.shape
            self.register_constant(f"matrix_{number}", torch.tensor(block.tensor.reshape(d1 * d2, d3).T.copy()))

    def multiply(self, number: int, x: Tensor, y: Tensor) -> Tensor:
        pairs = (x[:, :, None] * y[:, None]).flatten(1, 2)
        return torch.matmul(self.constant(f"matrix_{number}", x), pairs)

    def tally_of_block(self, block: Block, channels: int, channels_in2: int) -> Tally:
        d1, d2, d3 = block.tensor.shape
        pairs = d1 * d2 * channels
        outer = Tally(4, elementwise_flops=pairs, numbers=d1 * channels + d2 * channels_in2 + pairs, temporary=pairs)
        return outer + tally_of_products(d3, d1 * d2, channels)
