"""The convolution against e3nn's tensor product, edge by edge, and the layout of its paths."""

import math

import pytest
import torch
from e3nn import o3
from e3nn_layout import from_e3nn, to_e3nn

from mlip.nn import Convolution
from mlip.nn.layout import canonical_irreps, natural_irreps
from mlip.so3 import spherical_harmonics
from mlip_kernels.channelwise_convolution import IMPLEMENTATIONS
from mlip_kernels.edges import EdgeTopology

CASES = [
    ("4x0e", 0, "4x0e", -1),
    ("4x0e", 3, "4x0e+4x1o+4x2e+4x3o", -1),
    ("3x0e+3x1o", 3, "3x0e+3x1o+3x2e+3x3o", -1),
    ("3x0e+2x0o+4x1o+1x1e+2x2e+3x2o", 2, "1x0e+1x0o+1x1o+1x1e+1x2e+1x2o", -1),
    ("2x1e+3x3o", 2, "1x0o+1x1o+1x2e+1x3e", -1),
    # Without reflections every irrep is even, that of the harmonics too.
    ("3x0e+2x1e+1x2e", 3, "1x0e+1x1e+1x2e+1x3e", 1),
]


def edges_of(num_nodes: int, num_edges: int) -> EdgeTopology:
    receivers = torch.randint(0, num_nodes, (num_edges,)).sort().values
    return EdgeTopology(torch.randint(0, num_nodes, (num_edges,)), receivers, num_nodes)


def e3nn_product(irreps_in: o3.Irreps, harmonics: o3.Irreps, targets: o3.Irreps) -> tuple[o3.TensorProduct, list[int]]:
    """`uvu` paths in e3nn's own order, with the rank of each once sorted by output irrep."""
    outputs, instructions = [], []
    for i, (channels, irrep) in enumerate(irreps_in):
        for j, (_, harmonic) in enumerate(harmonics):
            for irrep_out in irrep * harmonic:
                if irrep_out in targets:
                    instructions.append((i, j, len(outputs), "uvu", True))
                    outputs.append((channels, irrep_out))
    product = o3.TensorProduct(
        irreps_in,
        harmonics,
        outputs,
        instructions,
        irrep_normalization="component",
        path_normalization="none",
        shared_weights=False,
        internal_weights=False,
    )
    order = sorted(range(len(outputs)), key=lambda k: (outputs[k][1], k))
    return product, order


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize(("irreps_in", "l_max", "targets", "parity"), CASES)
def test_equals_e3nn_per_edge_and_scatter(
    irreps_in: str, l_max: int, targets: str, parity: int, name: str, e3nn_in_double: None
) -> None:
    source, wanted = canonical_irreps(irreps_in), canonical_irreps(targets)
    convolution = Convolution(source, l_max, wanted, [8, 16], implementation=name, parity=parity).double()
    product, order = e3nn_product(source, o3.Irreps.spherical_harmonics(l_max, p=parity), wanted)
    edges = edges_of(5, 23)
    features, vectors, radial = torch.randn(5, source.dim), torch.randn(23, 3), torch.randn(23, 8)
    result = convolution(features, spherical_harmonics(l_max, vectors), radial, edges)

    weights = convolution.radial_network(radial)
    widths = [product.irreps_out[k].mul for k in order]
    sorted_weights = dict(zip(order, weights.split(widths, 1), strict=True))
    harmonics = o3.spherical_harmonics(list(range(l_max + 1)), vectors, normalize=True, normalization="component")
    messages = product(
        to_e3nn(features, source)[edges.senders],
        harmonics,
        torch.cat([sorted_weights[k] for k in range(len(order))], 1),
    )
    sums = torch.zeros(5, messages.shape[1]).index_add(0, edges.receivers, messages)
    slices = product.irreps_out.slices()
    sorted_sums = torch.cat([sums[:, slices[k]] for k in order], 1)
    joined = o3.Irreps([product.irreps_out[k] for k in order]).simplify()
    assert joined == convolution.irreps_out
    torch.testing.assert_close(result, from_e3nn(sorted_sums, joined), rtol=0, atol=1e-12)


def test_paths_are_all_that_parity_and_triangle_allow() -> None:
    """1o with harmonics up to 2: 0e x(1), 1o x(0, 2), 2e x(1); odd sums give 1e x(1), 2o x(2)."""
    convolution = Convolution(canonical_irreps("3x1o"), 2, natural_irreps(1, 2), [4])
    assert str(convolution.irreps_out) == "3x0e+6x1o+3x2e"
    assert convolution.table.weight_dim == 12


def test_one_edge_by_hand() -> None:
    """A scalar and an edge along z: Y_1 = sqrt(3) (0, 0, 1), and the coupling 0 x 1 -> 1 is the identity."""
    convolution = Convolution(canonical_irreps("1x0e"), 1, canonical_irreps("1x1o"), [1]).double()
    edges = EdgeTopology(torch.tensor([1]), torch.tensor([0]), 2)
    harmonics = spherical_harmonics(1, torch.tensor([[0.0, 0.0, 2.5]], dtype=torch.float64))
    features = torch.tensor([[7.0], [2.0]], dtype=torch.float64)
    result = convolution(features, harmonics, torch.tensor([[0.5]], dtype=torch.float64), edges)
    weight = 0.5 * convolution.radial_network.weights[0].item()
    torch.testing.assert_close(result, torch.tensor([[0, 0, 2 * weight * math.sqrt(3)], [0, 0, 0]]).double())


def test_no_edges() -> None:
    convolution = Convolution(canonical_irreps("2x0e+2x1o"), 2, natural_irreps(1, 2), [4, 8]).float()
    edges = EdgeTopology(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), 3)
    features = torch.randn(3, 8, requires_grad=True)
    result = convolution(features, torch.zeros(0, 9), torch.zeros(0, 4), edges)
    assert result.shape == (3, convolution.irreps_out.dim)
    assert not result.any()
    gradients = torch.autograd.grad(result.sum(), [features, *convolution.parameters()])
    assert not any(gradient.any() for gradient in gradients)
