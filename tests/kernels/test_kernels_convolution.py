"""Channelwise convolutions of any couplings against loops over edges, paths and components in numpy."""

import numpy as np
import pytest
import torch
from edge_cases import DEGREES, normal, random_edges
from hypothesis import given, settings
from hypothesis import strategies as st

from mlip_kernels.channelwise_convolution import IMPLEMENTATIONS, ConvolutionPath, ConvolutionTable
from mlip_kernels.channelwise_convolution.table import columns
from mlip_kernels.edges import EdgeTopology

# `escn` couples invariants with the harmonics of real directions only, and has its own tests.
ANY_TABLE = [name for name in IMPLEMENTATIONS if name != "escn"]
FLOATS = st.sampled_from([torch.float32, torch.float64])


def random_table(seed: int) -> ConvolutionTable:
    """Paths with random coefficients between up to three irreps in, l <= 2 harmonics, and up to three irreps out."""
    rng = np.random.default_rng(seed)
    inputs, offset = [], 0
    for _ in range(rng.integers(1, 4)):
        dim, channels = int(2 * rng.integers(0, 3) + 1), int(rng.integers(1, 4))
        inputs.append((offset, dim, channels))
        offset += dim * channels
    paths: list[ConvolutionPath] = []
    weight_offset = output_offset = 0
    for _ in range(rng.integers(1, 4)):
        dim = int(2 * rng.integers(0, 3) + 1)
        sources = [inputs[i] for i in rng.integers(0, len(inputs), size=rng.integers(1, 4))]
        output_channels = sum(channels for _, _, channels in sources)
        output_channel = 0
        for input_offset, input_dim, channels in sources:
            degree = int(rng.integers(0, 3))
            coefficients = rng.normal(size=(input_dim, 2 * degree + 1, dim))
            paths.append(
                ConvolutionPath(
                    input_offset,
                    degree**2,
                    weight_offset,
                    output_offset,
                    output_channels,
                    output_channel,
                    channels,
                    coefficients,
                )
            )
            weight_offset += channels
            output_channel += channels
        output_offset += dim * output_channels
    return ConvolutionTable(tuple(paths), offset, 9, weight_offset, output_offset)


def random_operands(table: ConvolutionTable, edges: EdgeTopology, seed: int) -> tuple[torch.Tensor, ...]:
    num_edges = len(edges.senders)
    widths = [table.input_dim, table.harmonics_dim, table.weight_dim]
    return tuple(normal(seed, *zip([edges.num_nodes, num_edges, num_edges], widths, strict=True)))


def by_loops(table: ConvolutionTable, operands: tuple[torch.Tensor, ...], edges: EdgeTopology) -> np.ndarray:
    features, harmonics, weights = (operand.numpy() for operand in operands)
    output = np.zeros((edges.num_nodes, table.output_dim))
    for edge, (sender, receiver) in enumerate(zip(edges.senders.tolist(), edges.receivers.tolist(), strict=True)):
        for path in table.paths:
            rows, columns, components = path.coefficients.shape
            for c in range(path.channels):
                x = [features[sender, path.input_offset + i * path.channels + c] for i in range(rows)]
                y = harmonics[edge, path.harmonic_offset : path.harmonic_offset + columns]
                message = weights[edge, path.weight_offset + c] * np.einsum("i,j,ijk->k", x, y, path.coefficients)
                for k in range(components):
                    column = path.output_offset + k * path.output_channels + path.output_channel + c
                    output[receiver, column] += message[k]
    return output


@pytest.mark.parametrize("name", sorted(set(ANY_TABLE) - {"kernel"}))
@settings(max_examples=80)
@given(degrees=st.lists(st.integers(0, 20), max_size=6), seed=st.integers(0, 10**6), dtype=FLOATS)
def test_equals_loops(name: str, degrees: list[int], seed: int, dtype: torch.dtype) -> None:
    check_against_loops(name, degrees, seed, dtype)


@pytest.mark.parametrize("seed", range(5))
@settings(max_examples=20)
@given(degrees=st.lists(st.integers(0, 20), max_size=6), dtype=FLOATS)
def test_kernel_equals_loops(seed: int, degrees: list[int], dtype: torch.dtype) -> None:
    """On few tables, since a program is compiled for each."""
    check_against_loops("kernel", degrees, seed, dtype)


def check_against_loops(name: str, degrees: list[int], seed: int, dtype: torch.dtype) -> None:
    table = random_table(seed)
    edges = random_edges(degrees, seed)
    operands = random_operands(table, edges, seed)
    operation = IMPLEMENTATIONS[name](table).to(dtype)
    output = operation(*(operand.to(dtype) for operand in operands), edges)
    assert output.dtype == dtype
    expected = by_loops(table, operands, edges)
    tolerance = {torch.float64: 1e-13, torch.float32: 2e-5}[dtype] * (1.0 + max(degrees, default=0))
    np.testing.assert_allclose(output.double().numpy(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ANY_TABLE)
@pytest.mark.parametrize("degrees", DEGREES, ids=str)
def test_first_and_second_derivatives(name: str, degrees: list[int]) -> None:
    table = random_table(3)
    edges = random_edges(degrees, 1)
    operands = tuple(operand.requires_grad_() for operand in random_operands(table, edges, 2))
    operation = IMPLEMENTATIONS[name](table)
    # Random projections in the place of whole Jacobians keep this fast; each covers all entries.
    assert torch.autograd.gradcheck(lambda *args: operation(*args, edges), operands, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *args: operation(*args, edges), operands, fast_mode=True)


@pytest.mark.parametrize("name", ANY_TABLE)
def test_whole_jacobians_of_a_small_case(name: str) -> None:
    table = random_table(0)
    edges = random_edges([2, 0, 1], 1)
    operands = tuple(operand.requires_grad_() for operand in random_operands(table, edges, 2))
    operation = IMPLEMENTATIONS[name](table)
    assert torch.autograd.gradcheck(lambda *args: operation(*args, edges), operands)
    assert torch.autograd.gradgradcheck(lambda *args: operation(*args, edges), operands)


@pytest.mark.parametrize("name", sorted(set(ANY_TABLE) - {"reference"}))
@pytest.mark.parametrize("degrees", DEGREES, ids=str)
def test_derivatives_of_all_implementations_agree(name: str, degrees: list[int]) -> None:
    """A force loss: the gradient of a function of the gradient, for each operand."""
    table = random_table(11)
    edges = random_edges(degrees, 5)
    results = {}
    for each in ("reference", name):
        operands = tuple(operand.requires_grad_() for operand in random_operands(table, edges, 6))
        output = IMPLEMENTATIONS[each](table)(*operands, edges)
        first = torch.autograd.grad((output**3).sum(), operands, create_graph=True)
        second = torch.autograd.grad(sum((gradient**2).sum() for gradient in first), operands)
        results[each] = [*first, *second]
    for expected, actual in zip(results["reference"], results[name], strict=True):
        scale = 1.0 + expected.abs().max().item() if expected.numel() else 1.0
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("name", ANY_TABLE)
def test_double_precision_is_whole_after_a_visit_to_single(name: str) -> None:
    table = random_table(7)
    edges = random_edges([3, 1, 4], 0)
    operands = random_operands(table, edges, 0)
    operation = IMPLEMENTATIONS[name](table)
    before = operation(*operands, edges)
    assert torch.equal(operation.float().double()(*operands, edges), before)


def test_columns_are_the_slices() -> None:
    tensor = torch.arange(22.0).reshape(2, 11).requires_grad_()
    # With gaps before, between and after, out of order, and one span twice.
    found = columns(tensor, [(6, 1), (1, 2), (3, 2), (1, 2)])
    assert list(found) == [(1, 2), (3, 2), (6, 1)]
    for (start, width), piece in found.items():
        assert torch.equal(piece, tensor[:, start : start + width])
    whole = columns(tensor, [(0, 11)])
    assert torch.equal(whole[0, 11], tensor)
    assert columns(tensor[:, :0], []) == {}
    (gradient,) = torch.autograd.grad(sum(piece.sum() for piece in found.values()), tensor)
    assert gradient.tolist() == [[0, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0]] * 2
