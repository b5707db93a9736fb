"""Definition of the symmetric contraction in plain torch, one term after another."""

import torch
from torch import Tensor

from mlip_kernels.constants import ConstantModule
from mlip_kernels.symmetric_contraction.table import ContractionTable


class ReferenceContraction(ConstantModule):
    """Sum over products p of `weight[z(n), p, c]` times `sum over monomials m of U[p, k, m] prod_i x[n, m_i, c]`."""

    def __init__(self, table: ContractionTable) -> None:
        super().__init__()
        self.table = table
        for number, term in enumerate(table.terms):
            self.register_constant(f"coefficients_{number}", torch.tensor(term.coefficients))

    def forward(self, features: Tensor, weights: Tensor, elements: Tensor) -> Tensor:
        """Contract.

        Args:
            features: Atom features, [nodes, input_components, channels].
            weights: Weight of each product, [elements, num_weights, channels].
            elements: Number of each atom's element, int64 [nodes].

        Returns:
            [nodes, columns]: the output irreps one after another, each [2*l+1, channels] with the channel last.
        """
        num_nodes, _, channels = features.shape
        outputs = [features.new_zeros(num_nodes, dim, channels) for dim in self.table.output_components]
        weights = weights[elements]
        for number, term in enumerate(self.table.terms):
            coefficients = getattr(self, f"coefficients_{number}")
            weight = weights[:, term.weight_offset : term.weight_offset + coefficients.shape[0]]
            monomials = torch.tensor(term.monomials, device=features.device)
            values = features[:, monomials].prod(2)
            outputs[term.output] = outputs[term.output] + torch.einsum("npc,pkm,nmc->nkc", weight, coefficients, values)
        return torch.cat([output.flatten(1) for output in outputs], 1)
