"""The symmetric contraction by shared monomials and one matrix product per correlation order."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlip_kernels.constants import ConstantModule
from mlip_kernels.symmetric_contraction.table import ContractionTable


class MonomialContraction(ConstantModule):
    """The function of `ReferenceContraction`, each monomial formed once for all outputs.

    A monomial of order v is one of order v-1 times one more component, so that each order costs one product; with the
    components first, `[components, nodes * channels]`, gathering is a copy of whole rows and all products of an order
    come from one matrix product `[products, monomials] @ [monomials, nodes * channels]`.
    """

    coefficients_1: Tensor

    def __init__(self, table: ContractionTable) -> None:
        super().__init__()
        self.table = table
        self.order = max(term.monomials.shape[1] for term in table.terms)
        monomials = _monomials_by_order(table, self.order)
        for order in range(2, self.order + 1):
            prefixes = _positions(monomials[order - 1], monomials[order][:, :-1])
            self.register_buffer(f"prefixes_{order}", torch.tensor(prefixes), persistent=False)
            self.register_buffer(f"factors_{order}", torch.tensor(monomials[order][:, -1]), persistent=False)
        # For each order, where its terms' rows lie in that order's matrix product.
        self.rows: dict[int, slice] = {}
        for order in range(1, self.order + 1):
            blocks = []
            first_row = 0
            for number, term in enumerate(table.terms):
                if term.monomials.shape[1] != order:
                    continue
                products, components, _ = term.coefficients.shape
                block = np.zeros((products, components, len(monomials[order])))
                block[:, :, _positions(monomials[order], term.monomials)] = term.coefficients
                blocks.append(block.reshape(products * components, -1))
                self.rows[number] = slice(first_row, first_row + products * components)
                first_row += products * components
            matrix = np.concatenate(blocks) if blocks else np.zeros((0, len(monomials[order])))
            self.register_constant(f"coefficients_{order}", torch.tensor(matrix))

    def forward(self, features: Tensor, weights: Tensor, elements: Tensor) -> Tensor:
        """Contract; arguments and result are those of `ReferenceContraction.forward`."""
        num_nodes, components, channels = features.shape
        x = features.transpose(0, 1).reshape(components, num_nodes * channels)
        products = {1: self.coefficients_1 @ x}
        values = x
        for order in range(2, self.order + 1):
            prefixes = getattr(self, f"prefixes_{order}")
            factors = getattr(self, f"factors_{order}")
            values = values.index_select(0, prefixes) * x.index_select(0, factors)
            products[order] = getattr(self, f"coefficients_{order}") @ values
        weights = weights.transpose(0, 1).index_select(1, elements)
        outputs: list[Tensor | None] = [None] * len(self.table.output_components)
        for number, term in enumerate(self.table.terms):
            count, dim, _ = term.coefficients.shape
            rows = products[term.monomials.shape[1]][self.rows[number]].view(count, dim, num_nodes, channels)
            weight = weights[term.weight_offset : term.weight_offset + count]
            total = (rows * weight[:, None]).sum(0)
            earlier = outputs[term.output]
            outputs[term.output] = total if earlier is None else earlier + total
        flat = [
            features.new_zeros(num_nodes, dim * channels) if output is None else output.transpose(0, 1).flatten(1)
            for output, dim in zip(outputs, self.table.output_components, strict=True)
        ]
        return torch.cat(flat, 1)


def _monomials_by_order(table: ContractionTable, highest: int) -> dict[int, NDArray[np.int64]]:
    """Monomials of each order that the terms need, or that those of the next order start with, in ascending order."""
    needed = {highest + 1: np.zeros((0, highest + 1), dtype=np.int64)}
    for order in range(highest, 0, -1):
        parts = [term.monomials for term in table.terms if term.monomials.shape[1] == order]
        needed[order] = np.unique(np.concatenate([*parts, needed[order + 1][:, :order]]), axis=0)
    # Order 1 is the input itself.
    needed[1] = np.arange(table.input_components, dtype=np.int64)[:, None]
    return needed


def _positions(monomials: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row of `monomials` at which each row of `wanted` stands."""
    row_of = {tuple(row): number for number, row in enumerate(monomials.tolist())}
    return np.array([row_of[tuple(row)] for row in wanted.tolist()], dtype=np.int64)
