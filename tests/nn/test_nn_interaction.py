"""Products of features with themselves: every backend of a coupling the same, equivariant, differentiable."""

import numpy as np
import pytest
import torch
from e3nn.o3 import Irreps
from test_nn_summed_convolution import CASES, TOLERANCES

from mlip.errors import ConfigError
from mlip.nn import FeatureInteraction
from mlip.nn.layout import blocks
from mlip.nn.product_choice import ProductChoice
from mlip.so3 import rotation_matrices

IRREPS = Irreps("3x0e+2x1o+2x1e+2x2e")


def build(backend: str, coupling: str, weights: str = "per_degree", irreps: Irreps = IRREPS) -> FeatureInteraction:
    torch.manual_seed(0)
    return FeatureInteraction(irreps, irreps, 2, ProductChoice(backend, coupling, weights)).double()


def features(rows: int, irreps: Irreps = IRREPS) -> torch.Tensor:
    return torch.randn(rows, irreps.dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def acted(x: torch.Tensor, operation: torch.Tensor) -> torch.Tensor:
    """Rotate or reflect channel-last features."""
    degrees = rotation_matrices(2, operation)
    sign = float(torch.linalg.det(operation).sign())
    parts = []
    for block in blocks(IRREPS):
        factor = block.irrep.p * (-1) ** block.irrep.l if sign < 0 else 1
        parts.append(torch.einsum("ij,njc->nic", factor * degrees[block.irrep.l], block.of(x)).flatten(1))
    return torch.cat(parts, 1)


@pytest.mark.parametrize(("coupling", "backend"), CASES)
@pytest.mark.parametrize("weights", ["per_degree", "shared"])
def test_backends_of_a_coupling_compute_the_same(coupling: str, backend: str, weights: str) -> None:
    expected = build("clebsch_gordan", coupling, weights)(features(3)).detach()
    result = build(backend, coupling, weights)(features(3)).detach()
    tolerance = TOLERANCES.get(backend, 1e-13) * float(expected.abs().max())
    np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("weights", ["per_path", "per_degree", "shared"])
def test_equivariance(weights: str) -> None:
    interaction = build("clebsch_gordan", "clebsch_gordan", weights)
    rotation = torch.linalg.qr(features(3)[:, :3])[0]
    for operation in (rotation, -rotation):
        result = interaction(acted(features(3), operation)).detach()
        np.testing.assert_allclose(result, acted(interaction(features(3)), operation).detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("coupling", "backend"), CASES)
def test_derivatives_of_first_and_second_order(coupling: str, backend: str) -> None:
    irreps = Irreps("1x0e+1x1o")
    interaction = build(backend, coupling, irreps=irreps)
    x = features(1, irreps).requires_grad_()
    assert torch.autograd.gradcheck(interaction, x)
    assert torch.autograd.gradgradcheck(interaction, x)


def test_results_of_a_new_interaction_have_variance_one() -> None:
    torch.manual_seed(2)
    irreps = Irreps("64x0e+64x1o+64x2e")
    for coupling, backend in CASES:
        interaction = FeatureInteraction(irreps, irreps, 64, ProductChoice(backend, coupling, "shared")).float()
        assert interaction(torch.randn(64, irreps.dim)).pow(2).mean().item() == pytest.approx(1.0, rel=0.4)


def test_what_no_path_reaches_is_zero_or_refused() -> None:
    choice = ProductChoice("spherical_grid", "gaunt", "shared")
    interaction = FeatureInteraction(Irreps("2x0e+2x1o"), Irreps("2x0e+2x1e"), 2, choice).double()
    result = interaction(features(1, Irreps("2x0e+2x1o")))
    assert result[:, :2].any()
    assert not result[:, 2:].any()
    with pytest.raises(ConfigError, match="to none of"):
        FeatureInteraction(Irreps("2x0e"), Irreps("2x1e"), 2, ProductChoice())
