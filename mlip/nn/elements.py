"""Atoms grouped by element, for weights that depend on it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ElementGroups:
    """Atoms sorted by element, found once for all layers of a model.

    Attributes:
        elements: Number of each atom's element in the model's list, int64 [nodes].
        order: Atoms sorted by element, int64 [nodes].
        inverse: Place of each atom in `order`, int64 [nodes].
        counts: Atoms of each element, in the model's order of elements.
    """

    elements: Tensor
    order: Tensor
    inverse: Tensor
    counts: list[int]

    @classmethod
    def from_elements(cls, elements: Tensor, num_elements: int) -> "ElementGroups":
        """Group atoms by their element's number, int64 [nodes]."""
        order = torch.argsort(elements, stable=True)
        counts = torch.bincount(elements, minlength=num_elements).tolist()
        return cls(elements, order, torch.argsort(order), counts)

    def apply(self, function: Callable[[Tensor, int], Tensor], values: Tensor) -> Tensor:
        """Apply `function(rows, element)` to the rows of `values` [nodes, ...] of each element that is present."""
        groups = values.index_select(0, self.order).split(self.counts)
        results = [function(group, element) for element, group in enumerate(groups) if self.counts[element]]
        return torch.cat(results).index_select(0, self.inverse)
