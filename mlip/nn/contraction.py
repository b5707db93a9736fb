"""Many-body products of atom features with element-dependent weights: the symmetric contraction of MACE."""

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from mlip.nn.elements import ElementGroups
from mlip.nn.layout import blocks
from mlip.nn.weights import normal_weights
from mlip.so3.symmetric_products import symmetric_product_basis
from mlip_kernels import symmetric_contraction
from mlip_kernels.backends import available_backend
from mlip_kernels.symmetric_contraction import ContractionTable, ContractionTerm

# Coefficients of the polynomials of a contraction; beyond, its programs take minutes to compile.
LONGEST_PROGRAM = 2000


class SymmetricContraction(nn.Module):
    """Symmetric powers of order 1 to `correlation` of features of degree 0 to l_max, channel by channel.

    Batatia et al. 2022 (arXiv 2206.07697), equations 10 and 11. The products of each order and irrep are an orthonormal
    basis of the symmetric equivariant maps, so that none is redundant.

    Args:
        l_max: Highest degree of the input, which has every degree from 0 with the parity (-1)^l.
        channels: Channels of the input and of every output irrep.
        irreps_out: Canonical irreps of the output.
        correlation: Highest order.
        num_elements: Number of elements.
        implementation: A key of `mlip_kernels.symmetric_contraction.IMPLEMENTATIONS`; chosen by
            `default_implementation` where it is not given.
    """

    def __init__(
        self,
        l_max: int,
        channels: int,
        irreps_out: Irreps,
        correlation: int,
        num_elements: int,
        implementation: str | None = None,
    ) -> None:
        super().__init__()
        self.l_max = l_max
        self.channels = channels
        self.table = contraction_table(l_max, irreps_out, correlation)
        self.weights = normal_weights(num_elements, self.table.num_weights, channels)
        # A term's weights start with a spread of one over the number of its products, as in MACE.
        with torch.no_grad():
            for term in self.table.terms:
                count = term.coefficients.shape[0]
                self.weights[:, term.weight_offset : term.weight_offset + count] /= count
        chosen = implementation or default_implementation(self.table)
        self.operation = symmetric_contraction.IMPLEMENTATIONS[chosen](self.table)

    def forward(self, features: Tensor, groups: ElementGroups) -> Tensor:
        """Contract features [nodes, (l_max+1)^2 * channels] to [nodes, irreps_out.dim], channel-last per irrep."""
        features = features.unflatten(1, ((self.l_max + 1) ** 2, self.channels))
        contracted: Tensor = self.operation(features, self.weights, groups.elements)
        return contracted


def default_implementation(table: ContractionTable) -> str:
    """The fastest implementation that there is here, without programs that would take minutes to compile."""
    coefficients = sum(int((abs(term.coefficients) > 0).any(0).sum()) for term in table.terms)
    if available_backend("cpu") == "reference" or coefficients > LONGEST_PROGRAM:
        return "monomials"
    return "kernel"


def contraction_table(l_max: int, irreps_out: Irreps, correlation: int) -> ContractionTable:
    """Terms by output irrep, then by order; the weights' rows have the same order."""
    terms = []
    offset = 0
    for number, block in enumerate(blocks(irreps_out)):
        for order in range(1, correlation + 1):
            basis = symmetric_product_basis(l_max, order, str(block.irrep))
            if not basis.coefficients.shape[0]:
                continue
            terms.append(ContractionTerm(number, basis.monomials, basis.coefficients, offset))
            offset += basis.coefficients.shape[0]
    dims = tuple(block.dim for block in blocks(irreps_out))
    return ContractionTable(tuple(terms), (l_max + 1) ** 2, dims, offset)
