"""The eSCN convolution against the definition, on harmonics of real directions, poles and equator among them."""

import dataclasses

import numpy as np
import pytest
import torch
from e3nn.o3 import Irreps

from mlip.nn.convolution import convolution_table
from mlip.nn.layout import canonical_irreps
from mlip.so3 import spherical_harmonics
from mlip_kernels.channelwise_convolution import ConvolutionTable, ESCNConvolution, ReferenceConvolution
from mlip_kernels.channelwise_convolution.escn import rotation_to_pole
from mlip_kernels.edges import EdgeTopology

# Irreps of the features, highest degree of the harmonics, irreps of the result, parity of degree 1.
TABLES = {
    "natural parity": ("3x0e+3x1o+3x2e", 2, "0e+1o+2e", -1),
    "both parities, unequal channels": ("3x0e+2x0o+4x1o+1x1e+2x2e+3x2o", 2, "0e+0o+1o+1e+2e+2o", -1),
    "rotations only": ("3x0e+2x1e+1x2e", 3, "0e+1e+2e+3e", 1),
    "harmonics above all features": ("2x0e+3x1o", 5, "0e+1o+1e", -1),
    "features above all harmonics": ("2x4e+1x3o", 1, "3o+4e+5o", -1),
    "scalars to scalars": ("2x0e", 2, "0e", -1),
    "scalars to all": ("4x0e", 3, "0e+1o+2e+3o", -1),
    "harmonics of degree 0 alone": ("2x0e+3x1o", 0, "0e+1o", -1),
}
# Degree sequences: no atom, no edge, one edge, lonely atoms between others, equal, uneven.
DEGREES = [[], [0], [0, 0, 0], [1], [0, 1], [2, 2, 2], [0, 5, 1, 0, 3], [1, 9, 2, 0, 17, 4, 1]]
UNEVEN = DEGREES[-1]
SPECIAL = [
    [0, 1, 0],
    [0, -1, 0],
    [1, 0, 0],
    [0, 0, -1],
    [0.6, -0.0, 0.8],
    [1e-9, -1, 0],
    [1e-9, 1, 1e-9],
    [1, -1e-12, 1],
]


def table_of(name: str, coupling: str = "clebsch_gordan") -> ConvolutionTable:
    irreps_in, l_max, targets, parity = TABLES[name]
    wanted = {irrep for _, irrep in Irreps(targets)}
    return convolution_table(canonical_irreps(irreps_in), l_max, wanted, parity, coupling)[0]


def edges_of(degrees: list[int]) -> EdgeTopology:
    receivers = torch.repeat_interleave(torch.arange(len(degrees)), torch.tensor(degrees, dtype=torch.int64))
    senders = (7 * torch.arange(len(receivers)) + 1) % max(len(degrees), 1)
    return EdgeTopology(senders, receivers, len(degrees))


def operands_of(table: ConvolutionTable, edges: EdgeTopology) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, edge vectors that begin with the special ones, and weights, all asking for gradients."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    num_edges = len(edges.senders)
    vectors = normal(num_edges, 3)
    special = torch.tensor(SPECIAL, dtype=torch.float64)[:num_edges]
    vectors = torch.cat([2.5 * special, vectors[len(special) :]])
    features, weights = normal(edges.num_nodes, table.input_dim), normal(num_edges, table.weight_dim)
    return features.requires_grad_(), vectors.requires_grad_(), weights.requires_grad_()


def convolve(
    operation: torch.nn.Module,
    features: torch.Tensor,
    vectors: torch.Tensor,
    weights: torch.Tensor,
    edges: EdgeTopology,
) -> torch.Tensor:
    l_max = round(operation.table.harmonics_dim**0.5) - 1
    return operation(features, spherical_harmonics(l_max, vectors), weights, edges)


def assert_near(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-12) -> None:
    scale = max(1.0, float(expected.detach().abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("degrees", DEGREES, ids=str)
def test_equals_the_definition(name: str, degrees: list[int]) -> None:
    table, edges = table_of(name), edges_of(degrees)
    operands = operands_of(table, edges)
    expected = convolve(ReferenceConvolution(table), *operands, edges)
    assert_near(convolve(ESCNConvolution(table), *operands, edges), expected)


@pytest.mark.parametrize("coupling", ["gaunt", "bracket", "gaunt+bracket"])
def test_couplings_other_than_clebsch_gordan(coupling: str) -> None:
    table, edges = table_of("both parities, unequal channels", coupling), edges_of(UNEVEN)
    operands = operands_of(table, edges)
    expected = convolve(ReferenceConvolution(table), *operands, edges)
    assert_near(convolve(ESCNConvolution(table), *operands, edges), expected)


def test_single_precision() -> None:
    table, edges = table_of("both parities, unequal channels"), edges_of(UNEVEN)
    operands = operands_of(table, edges)
    operation = ESCNConvolution(table)
    expected = convolve(operation, *operands, edges)
    single = convolve(operation.float(), *(operand.float() for operand in operands), edges)
    assert single.dtype == torch.float32
    assert_near(single.double(), expected, 1e-5)
    assert torch.equal(convolve(operation.double(), *operands, edges), expected)


@pytest.mark.parametrize("name", TABLES)
def test_derivatives_with_respect_to_positions_equal_those_of_the_definition(name: str) -> None:
    """A force loss: the gradient of a function of the gradient, for each operand."""
    table, edges = table_of(name), edges_of(UNEVEN)
    operands = operands_of(table, edges)
    results = []
    for operation in (ReferenceConvolution(table), ESCNConvolution(table)):
        output = convolve(operation, *operands, edges)
        first = torch.autograd.grad(
            (output**3).sum(), operands, create_graph=True, allow_unused=True, materialize_grads=True
        )
        second = torch.autograd.grad(sum((each**2).sum() for each in first), operands, materialize_grads=True)
        results.append([*first, *second])
    for expected, actual in zip(*results, strict=True):
        assert_near(actual, expected)


@pytest.mark.parametrize("degrees", [[], [0, 0, 0], [0, 5, 1, 0, 3]], ids=str)
def test_derivatives_by_finite_differences(degrees: list[int]) -> None:
    table, edges = table_of("both parities, unequal channels"), edges_of(degrees)
    operation = ESCNConvolution(table)
    # Beside the equator, where a difference would take values on both sides, which is the next test's subject.
    features, vectors, weights = operands_of(table, edges)
    operands = (features, vectors.detach().add(0.1).requires_grad_(), weights)
    assert torch.autograd.gradcheck(lambda *args: convolve(operation, *args, edges), operands, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *args: convolve(operation, *args, edges), operands, fast_mode=True)


def test_the_frames_change_at_the_equator_and_the_result_does_not() -> None:
    table, edges = table_of("rotations only"), edges_of([1])
    features, _, weights = operands_of(table, edges)
    operation = ESCNConvolution(table)
    results, frames = [], []
    for height in (1e-14, -1e-14):
        vector = torch.tensor([[0.6, height, 0.8]], dtype=torch.float64, requires_grad=True)
        output = convolve(operation, features, vector, weights, edges)
        results.append([output, *torch.autograd.grad((output**2).sum(), vector)])
        frames.append(rotation_to_pole(vector.detach()))
    for above, below in zip(*results, strict=True):
        torch.testing.assert_close(above, below, rtol=0, atol=1e-12)
    assert (frames[0] - frames[1]).abs().max() > 0.5


def test_rotations_take_directions_to_the_pole() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.cat([torch.tensor(SPECIAL, dtype=torch.float64), torch.randn(50, 3, generator=generator).double()])
    directions = vectors / vectors.norm(dim=1, keepdim=True)
    rotations = rotation_to_pole(directions)
    identity = torch.eye(3, dtype=torch.float64).expand_as(rotations)
    torch.testing.assert_close(rotations @ rotations.transpose(1, 2), identity, rtol=0, atol=1e-15)
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(len(rotations)).double(), rtol=0, atol=1e-14)
    pole = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).expand_as(directions)
    torch.testing.assert_close((rotations @ directions[..., None])[..., 0], pole, rtol=0, atol=1e-15)


def test_nothing_of_all_paths_components_and_channels_is_kept() -> None:
    """What autograd keeps per edge grows with the channels as the operands do, not with the components of all paths."""
    kept = []
    for channels in (16, 32):
        irreps = Irreps("+".join(f"{channels}x{degree}e" for degree in range(4)))
        table, _ = convolution_table(irreps, 3, {irrep for _, irrep in irreps}, parity=1)
        edges = edges_of([20, 20])
        operands = operands_of(table, edges)
        storages: dict[int, int] = {}

        def keep(tensor: torch.Tensor, storages: dict[int, int] = storages) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // tensor.itemsize
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = convolve(ESCNConvolution(table), *operands, edges)
        assert output.requires_grad
        kept.append(sum(storages.values()))
    per_edge_and_channel = (kept[1] - kept[0]) / (40 * 16)
    sent_turned_and_weights = 16 + 16 + len(table.paths)
    assert per_edge_and_channel <= sent_turned_and_weights
    weighted = sum(min(path.coefficients.shape[0], path.coefficients.shape[2]) for path in table.paths)
    assert weighted > sent_turned_and_weights, "the bound would hold for anything"


def test_inference_mode() -> None:
    table, edges = table_of("natural parity"), edges_of(UNEVEN)
    operands = operands_of(table, edges)
    operation = ESCNConvolution(table)
    with torch.inference_mode():
        inferred = convolve(operation, *operands, edges_of(UNEVEN))
    assert torch.equal(convolve(operation, *operands, edges), inferred)


def test_what_the_table_has_to_hold() -> None:
    table = table_of("natural parity")
    with pytest.raises(ValueError, match="lifts of 0 degrees and escn needs those of 2"):
        ESCNConvolution(dataclasses.replace(table, lifts=()))
    shifted = tuple(dataclasses.replace(path, harmonic_offset=path.harmonic_offset + 1) for path in table.paths)
    with pytest.raises(ValueError, match="stand at column 1 and escn needs them at 0"):
        ESCNConvolution(dataclasses.replace(table, paths=shifted))
    rng = np.random.default_rng(0)
    *others, last = table.paths
    arbitrary = dataclasses.replace(last, coefficients=rng.normal(size=last.coefficients.shape))
    with pytest.raises(ValueError, match="is not invariant under rotations"):
        ESCNConvolution(dataclasses.replace(table, paths=(*others, arbitrary)))
