"""Many-body products of a swapped coupling: one function for every backend, and its definition."""

import numpy as np
import pytest
import torch
from e3nn.o3 import Irreps
from test_nn_gain import natural, power_tensor

from mlip.errors import ConfigError
from mlip.nn.build import build_contraction
from mlip.nn.degree_contraction import DegreeContraction
from mlip.nn.elements import ElementGroups
from mlip.nn.gain import power_gain, product_gain
from mlip.nn.product_choice import ProductChoice
from mlip.tensor_products import ProductSpec

L_MAX, CHANNELS, CORRELATION = 2, 2, 3
OUTPUT = Irreps(f"{CHANNELS}x0e+{CHANNELS}x1o")
BACKENDS = {
    "clebsch_gordan": ["clebsch_gordan", "cp"],
    "gaunt": ["clebsch_gordan", "spherical_grid", "gaunt_fourier"],
    "matrix": ["clebsch_gordan", "matrix"],
}
CASES = [(coupling, backend) for coupling, backends in BACKENDS.items() for backend in backends]
TOLERANCES = {"cp": 1e-6}
GROUPS = ElementGroups.from_elements(torch.tensor([0, 1, 0, 1, 1]), 2)


def build(backend: str, coupling: str, weights: str = "per_degree", output: Irreps = OUTPUT) -> DegreeContraction:
    torch.manual_seed(0)
    choice = ProductChoice(backend, coupling, weights)
    contraction = build_contraction(L_MAX, CHANNELS, output, CORRELATION, 2, choice).double()
    assert isinstance(contraction, DegreeContraction)
    generator = torch.Generator().manual_seed(3)
    for parameter in contraction.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return contraction


def features(seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, (L_MAX + 1) ** 2 * CHANNELS, generator=generator, dtype=torch.float64)


def power_of(coupling: str, order: int, x: torch.Tensor) -> torch.Tensor:
    """The power of one order of [nodes, 9, channels] by its definition, for the outputs 0e and 1o."""
    if order == 1:
        return x[:, :4]
    if coupling == "gaunt":
        tensor = torch.tensor(power_tensor(L_MAX, order, 1) * power_gain(L_MAX, order, natural(1)))
        letters = "ijl"[:order]
        operands = ",".join(f"n{letter}c" for letter in letters)
        return torch.einsum(f"{operands},{letters}k->nkc", *[x] * order, tensor)
    power = x
    for step in range(2, order + 1):
        outputs = natural(1 if step == order else L_MAX)
        spec = ProductSpec(natural(L_MAX), natural(L_MAX), outputs, coupling, "none")
        tensor = torch.tensor(spec.tensor() * product_gain(spec))
        power = torch.einsum("nic,njc,ijk->nkc", power, x, tensor)
    return power


@pytest.mark.parametrize(("coupling", "backend"), CASES)
@pytest.mark.parametrize("weights", ["per_degree", "shared"])
def test_values_are_those_of_the_definition(coupling: str, backend: str, weights: str) -> None:
    contraction = build(backend, coupling, weights)
    x = features().unflatten(1, (-1, CHANNELS))
    expected = torch.zeros(5, 4, CHANNELS, dtype=torch.float64)
    degrees, outputs = [0, 1, 1, 1, 2, 2, 2, 2, 2], [0, 1, 1, 1]
    if weights == "shared":
        degrees, outputs = [0] * 9, [0] * 4
    for order in range(1, CORRELATION + 1):
        scaled = x
        if contraction.input_weights is not None:
            scaled = x * contraction.input_weights[GROUPS.elements][:, order - 1][:, degrees]
        factors = contraction.output_weights[GROUPS.elements][:, order - 1][:, outputs]
        expected = expected + power_of(coupling, order, scaled) * factors
    result = contraction(features(), GROUPS)
    tolerance = TOLERANCES.get(backend, 1e-13) * float(expected.detach().abs().max())
    np.testing.assert_allclose(result.detach(), expected.flatten(1).detach(), rtol=0, atol=tolerance)


@pytest.mark.parametrize(("coupling", "backend"), CASES)
def test_derivatives_of_first_and_second_order(coupling: str, backend: str) -> None:
    contraction = build(backend, coupling)
    groups = ElementGroups.from_elements(torch.tensor([1]), 2)
    x = features()[:1].requires_grad_()
    assert torch.autograd.gradcheck(lambda each: contraction(each, groups), x)
    assert torch.autograd.gradgradcheck(lambda each: contraction(each, groups), x)


@pytest.mark.parametrize("coupling", BACKENDS)
def test_all_backends_share_the_state_dict(coupling: str) -> None:
    shapes = [
        {name: tensor.shape for name, tensor in build(backend, coupling).state_dict().items()}
        for backend in BACKENDS[coupling]
    ]
    assert all(each == shapes[0] for each in shapes)
    assert shapes[0] == {"input_weights": (2, 3, 3, CHANNELS), "output_weights": (2, 3, 2, CHANNELS)}


@pytest.mark.parametrize("backend", BACKENDS["gaunt"])
def test_results_of_a_new_gaunt_contraction_have_variance_one(backend: str) -> None:
    channels = 500
    torch.manual_seed(1)
    output = Irreps(f"{channels}x0e+{channels}x1o")
    contraction = build_contraction(1, channels, output, 2, 1, ProductChoice(backend, "gaunt", "per_degree")).float()
    groups = ElementGroups.from_elements(torch.zeros(200, dtype=torch.int64), 1)
    values = contraction(torch.randn(200, 4 * channels), groups)
    second = values.pow(2).mean(0).split([channels, 3 * channels])
    assert [each.mean().item() for each in second] == pytest.approx([1.0, 1.0], rel=0.1)


@pytest.mark.parametrize(
    ("choice", "output", "message"),
    [
        (ProductChoice("spherical_grid", "gaunt+bracket", "shared"), "2x0e", "the bracket of a function with itself"),
        (ProductChoice("spherical_grid", "gaunt", "shared"), "2x0e+2x1e", "do not give '1e'"),
        (ProductChoice("cp", "gaunt", "shared"), "2x0e", "no many-body products"),
        (ProductChoice("clebsch_gordan", "gaunt", "per_path"), "2x0e", "is that of MACE"),
        (
            ProductChoice("clebsch_gordan", "clebsch_gordan", "per_path", {"algorithm": "sparse"}),
            "2x0e",
            "is that of MACE",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused(choice: ProductChoice, output: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_contraction(L_MAX, 2, Irreps(output), 2, 1, choice)
