"""Numbers of the elements that no change of dtype rounds."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn


class ElementValues(nn.Module):
    """A number of each element, in float64 whatever the dtype of the network: reference energies reach 1e5 eV."""

    values: Tensor

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.register_buffer("values", torch.tensor(values, dtype=torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        exact = self.values
        module: Any = super()._apply(fn, recurse)
        self.values = exact.to(self.values.device)
        return module

    def forward(self, elements: Tensor) -> Tensor:
        """Values of atoms whose elements have these numbers, int64 [nodes]."""
        return self.values[elements]
