"""Convolutions whose paths are summed: one function for every backend of a coupling, and its definition."""

import numpy as np
import pytest
import torch
from e3nn.o3 import Irreps

from mlip.errors import ConfigError
from mlip.nn.build import build_convolution, convolution_irreps
from mlip.nn.gain import product_gain
from mlip.nn.product_choice import ProductChoice
from mlip.nn.summed_convolution import SummedConvolution, convolution_spec
from mlip_kernels.edges import EdgeTopology

L_MAX, CHANNELS = 2, 3
NATURAL = f"{CHANNELS}x0e+{CHANNELS}x1o+{CHANNELS}x2e"
MIXED = f"{CHANNELS}x0o+{CHANNELS}x0e+{CHANNELS}x1o+{CHANNELS}x1e+{CHANNELS}x2e"
EVEN = f"{CHANNELS}x0e+{CHANNELS}x1e+{CHANNELS}x2e"
BACKENDS = {
    "clebsch_gordan": ["clebsch_gordan", "cp"],
    "gaunt": ["clebsch_gordan", "spherical_grid", "gaunt_fourier"],
    "gaunt+bracket": ["clebsch_gordan", "spherical_grid"],
    "matrix": ["clebsch_gordan", "matrix"],
}
CASES = [(coupling, backend) for coupling, backends in BACKENDS.items() for backend in backends]
# The factors of the exact CP fit are good to this.
TOLERANCES = {"cp": 1e-6}


def choice(backend: str, coupling: str, weights: str = "per_degree") -> ProductChoice:
    return ProductChoice(backend, coupling, weights)


def build(backend: str, coupling: str, weights: str, irreps: str, parity: int = -1) -> SummedConvolution:
    torch.manual_seed(0)
    convolution = build_convolution(
        Irreps(irreps), L_MAX, Irreps(irreps), [2], choice(backend, coupling, weights), parity
    )
    assert isinstance(convolution, SummedConvolution)
    return convolution.double()


def operands(irreps: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, EdgeTopology]:
    receivers = torch.tensor([0, 0, 0, 2, 2, 3])
    senders = torch.tensor([1, 2, 0, 3, 0, 1])
    generator = torch.Generator().manual_seed(1)
    shapes = [(4, Irreps(irreps).dim), (6, (L_MAX + 1) ** 2), (6, 2)]
    x, y, radial = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return x, y, radial, EdgeTopology(senders, receivers, 4)


@pytest.mark.parametrize(("coupling", "backend"), CASES)
@pytest.mark.parametrize("weights", ["per_degree", "shared"])
@pytest.mark.parametrize(
    ("irreps", "parity"), [(NATURAL, -1), (MIXED, -1), (EVEN, 1)], ids=["natural", "mixed", "even"]
)
def test_values_are_those_of_the_definition(
    coupling: str, backend: str, weights: str, irreps: str, parity: int
) -> None:
    convolution = build(backend, coupling, weights, irreps, parity)
    x, y, radial, edges = operands(irreps)
    spec = convolution_spec(Irreps(irreps), L_MAX, Irreps(irreps), choice(backend, coupling), parity)
    tensor = torch.tensor(spec.tensor() * product_gain(spec))
    per_edge = convolution.radial_network(radial).unflatten(1, (-1, CHANNELS))
    rows = [degree if weights == "per_degree" else 0 for degree in range(L_MAX + 1) for _ in range(2 * degree + 1)]
    messages = torch.einsum(
        "eic,ej,ejc,ijk->ekc", x.unflatten(1, (-1, CHANNELS))[edges.senders], y, per_edge[:, rows], tensor
    )
    expected = torch.zeros(4, *messages.shape[1:], dtype=torch.float64)
    for message, receiver in zip(messages, edges.receivers.tolist(), strict=True):
        expected[receiver] += message
    result = convolution(x, y, radial, edges)
    assert result.shape[1] == convolution.irreps_out.dim
    tolerance = TOLERANCES.get(backend, 1e-13) * float(expected.detach().abs().max())
    np.testing.assert_allclose(result.detach(), expected.flatten(1).detach(), rtol=0, atol=tolerance)


@pytest.mark.parametrize(("coupling", "backend"), CASES)
def test_derivatives_of_first_and_second_order(coupling: str, backend: str) -> None:
    irreps = "2x0e+2x1o"
    torch.manual_seed(0)
    convolution = build_convolution(Irreps(irreps), 1, Irreps(irreps), [2], choice(backend, coupling)).double()
    generator = torch.Generator().manual_seed(2)
    edges = EdgeTopology(torch.tensor([1, 0, 1]), torch.tensor([0, 0, 1]), 2)
    shapes = [(2, 8), (3, 4), (3, 2)]
    given = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(lambda *each: convolution(*each, edges), given)
    assert torch.autograd.gradgradcheck(lambda *each: convolution(*each, edges), given)


@pytest.mark.parametrize("coupling", BACKENDS)
def test_all_backends_share_the_state_dict(coupling: str) -> None:
    shapes = [
        {name: tensor.shape for name, tensor in build(backend, coupling, "per_degree", NATURAL).state_dict().items()}
        for backend in BACKENDS[coupling]
    ]
    assert all(each == shapes[0] for each in shapes)
    assert shapes[0] == {"radial_network.weights.0": (2, (L_MAX + 1) * CHANNELS)}


def test_no_edges_and_no_atoms() -> None:
    for coupling, backend in CASES:
        convolution = build(backend, coupling, "per_degree", NATURAL)
        empty = torch.zeros(0, dtype=torch.int64)
        for atoms in (0, 2):
            features = torch.ones(atoms, Irreps(NATURAL).dim, dtype=torch.float64)
            zeros = torch.zeros(0, 9, dtype=torch.float64), torch.zeros(0, 2, dtype=torch.float64)
            result = convolution(features, *zeros, EdgeTopology(empty, empty, atoms))
            assert torch.equal(result, torch.zeros_like(features))


def test_unequal_channels_are_made_equal_where_paths_are_summed() -> None:
    irreps = Irreps("4x0e+2x1o")
    assert convolution_irreps(irreps, ProductChoice()) == irreps
    assert convolution_irreps(irreps, choice("spherical_grid", "gaunt")) == Irreps("4x0e+4x1o")


def test_targets_that_the_coupling_does_not_reach_are_left_out() -> None:
    convolution = build("spherical_grid", "gaunt", "shared", f"{CHANNELS}x0e+{CHANNELS}x1o")
    assert str(convolution.irreps_out) == "3x0e+3x1o"
    wide = build_convolution(Irreps(NATURAL), 2, Irreps("3x0e+3x1e"), [2], choice("spherical_grid", "gaunt"))
    assert str(wide.irreps_out) == "3x0e"
    with pytest.raises(ConfigError, match="'gaunt' leads from"):
        build_convolution(Irreps(NATURAL), 2, Irreps("3x1e"), [2], choice("spherical_grid", "gaunt"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (ProductChoice("spherical_grid", "gaunt", "per_path"), "no 'per_path' weights"),
        (ProductChoice("spherical_grid", "clebsch_gordan", "shared"), "does not compute the coupling"),
        (ProductChoice("gaunt_furier", "gaunt", "shared"), "did you mean 'gaunt_fourier'"),
        (ProductChoice("clebsch_gordan", "clebsch_gordan", "per_path", {"algorithm": "escm"}), "did you mean 'escn'"),
        (
            ProductChoice("clebsch_gordan", "clebsch_gordan", "per_path", {"rank": 3}),
            "'rank' belongs to the backend cp",
        ),
        (ProductChoice("spherical_grid", "gaunt", "shared", {"rank": 3}), "no option 'rank'"),
    ],
)
def test_what_cannot_be_computed_is_refused(given: ProductChoice, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_convolution(Irreps(NATURAL), 2, Irreps(NATURAL), [2], given)
