"""Definition of the spherical harmonics in plain torch."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mlip_kernels.constants import ConstantModule
from mlip_kernels.spherical_harmonics.table import HarmonicsTable


class ReferenceSphericalHarmonics(ConstantModule):
    """The solid harmonics of a table at the direction of each vector."""

    def __init__(self, table: HarmonicsTable) -> None:
        super().__init__()
        self.table = table
        for degree, raising in enumerate(table.raisings):
            self.register_constant(f"raising_{degree}", torch.tensor(raising))

    def forward(self, vectors: Tensor) -> Tensor:
        """Evaluate.

        Args:
            vectors: [edges, 3], of any length. A zero vector has no direction: its degrees above 0 are zero, and so are
                all its derivatives.

        Returns:
            [edges, (l_max + 1)^2].
        """
        return harmonics(vectors, [self.get_buffer(f"raising_{degree}") for degree in range(self.table.l_max)])


def harmonics(vectors: Tensor, raisings: Sequence[Tensor]) -> Tensor:
    """The function of `ReferenceSphericalHarmonics.forward`, differentiable any number of times."""
    squares = (vectors * vectors).sum(1, keepdim=True)
    # The inverse root of infinity is zero with zero derivatives of every order.
    directions = vectors * squares.masked_fill(squares == 0, math.inf).rsqrt()
    degrees = [torch.ones_like(squares)]
    for raising in raisings:
        products = degrees[-1][:, :, None] * directions[:, None]
        degrees.append(products.flatten(1) @ raising.to(vectors).flatten(0, 1))
    return torch.cat(degrees, 1)
