"""The symmetric contraction against dense tensors, and its equivariance."""

from itertools import permutations

import numpy as np
import pytest
import torch
from e3nn import o3
from e3nn_layout import from_e3nn, to_e3nn

from mlip.nn import ElementGroups, SymmetricContraction
from mlip.nn.layout import blocks, canonical_irreps, natural_irreps
from mlip.so3 import symmetric_product_basis, wigner_3j
from mlip_kernels.symmetric_contraction import IMPLEMENTATIONS


def dense_tensors(l_max: int, order: int, irrep: str) -> np.ndarray:
    """Symmetric tensors U [products, 2l+1, components, ..., components] whose contraction is the polynomial."""
    basis = symmetric_product_basis(l_max, order, irrep)
    size = (l_max + 1) ** 2
    dense = np.zeros((*basis.coefficients.shape[:2], *[size] * order))
    for monomial, column in zip(basis.monomials, np.moveaxis(basis.coefficients, 2, 0), strict=True):
        places = set(permutations(monomial.tolist()))
        for place in places:
            dense[(slice(None), slice(None), *place)] += column / len(places)
    return dense


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("l_max", "correlation", "irreps_out"),
    [(1, 1, "0e"), (2, 2, "0e+1o"), (2, 3, "0e+1o+2e"), (1, 4, "0e+1o"), (3, 3, "0e"), (0, 3, "0e")],
)
def test_equals_contraction_of_dense_tensors(l_max: int, correlation: int, irreps_out: str, name: str) -> None:
    channels, num_elements = 3, 2
    target = canonical_irreps("+".join(f"{channels}x{irrep}" for irrep in irreps_out.split("+")))
    contraction = SymmetricContraction(l_max, channels, target, correlation, num_elements, implementation=name).double()
    elements = torch.tensor([1, 0, 1, 1])
    size = (l_max + 1) ** 2
    features = torch.randn(4, size * channels, dtype=torch.float64)
    result = contraction(features, ElementGroups.from_elements(elements, num_elements)).detach()

    x = features.numpy().reshape(4, size, channels)
    weights = contraction.weights.detach().numpy()[elements]
    offset = 0
    for block in blocks(target):
        expected = np.zeros((4, block.dim, channels))
        for order in range(1, correlation + 1):
            contracted = np.einsum("pk...,nc->ncpk...", dense_tensors(l_max, order, str(block.irrep)), np.ones((4, 3)))
            for _ in range(order):
                contracted = np.einsum("nc...i,nic->nc...", contracted, x)
            count = contracted.shape[2]
            expected += np.einsum("ncpk,npc->nkc", contracted, weights[:, offset : offset + count])
            offset += count
        np.testing.assert_allclose(block.of(result), expected, rtol=0, atol=1e-11 * max(1, np.abs(expected).max()))
    assert offset == contraction.weights.shape[1]


def test_products_of_two_vectors_are_those_known_by_hand() -> None:
    """Degree 1 alone, order 2 to 0e: the basis is +-|v|^2 / sqrt(3), the normalised 3j contraction."""
    contraction = SymmetricContraction(1, 1, canonical_irreps("1x0e"), 2, 1).double()
    torch.nn.init.ones_(contraction.weights)
    groups = ElementGroups.from_elements(torch.tensor([0]), 1)
    v = torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64)

    def even_part(scale: float) -> float:
        return contraction(torch.cat([torch.zeros(1), scale * v])[None].double(), groups).item()

    coupling = np.einsum("ijk,i,j->k", wigner_3j(1, 1, 0), v, v)[0]
    assert abs(even_part(1.0)) == pytest.approx(abs(coupling), rel=1e-13)
    assert even_part(2.0) == pytest.approx(4 * even_part(1.0), rel=1e-13)


@pytest.mark.parametrize("correlation", [1, 2, 3, 4])
def test_equivariance(correlation: int, e3nn_in_double: None) -> None:
    l_max, channels = 3 if correlation < 4 else 2, 2
    source = natural_irreps(channels, l_max)
    target = canonical_irreps("2x0e+2x1o+2x2e+2x3o+2x1e")
    contraction = SymmetricContraction(l_max, channels, target, correlation, 2).double()
    groups = ElementGroups.from_elements(torch.tensor([1, 0, 1]), 2)
    features = torch.randn(3, source.dim)
    operation = -o3.rand_matrix()
    turned = from_e3nn(to_e3nn(features, source) @ source.D_from_matrix(operation).T, source)
    result = contraction(features, groups)
    expected = from_e3nn(to_e3nn(result, target) @ target.D_from_matrix(operation).T, target)
    scale = 1.0 + expected.abs().max().item()
    torch.testing.assert_close(contraction(turned, groups), expected, rtol=0, atol=1e-12 * scale)


def test_weights_start_with_a_spread_of_one_over_the_number_of_products() -> None:
    torch.manual_seed(0)
    contraction = SymmetricContraction(2, 400, canonical_irreps("400x0e+400x1o"), 3, 2)
    for term in contraction.table.terms:
        count = term.coefficients.shape[0]
        spread = contraction.weights[:, term.weight_offset : term.weight_offset + count].std().item()
        assert spread == pytest.approx(1.0 / count, rel=0.15)
