"""Checks of the convolution's Triton kernels, run by `test_kernels_gpu_convolution.py` in Triton's interpreter."""

from collections.abc import Iterator
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest
import torch
from edge_cases import normal, random_edges
from scipy.interpolate import BSpline
from test_kernels_convolution import random_table
from torch import Tensor

from mlip_kernels.channelwise_convolution import (
    ConvolutionPath,
    ConvolutionTable,
    ReferenceConvolution,
    gpu,
    gpu_groups,
    op,
)
from mlip_kernels.channelwise_convolution.gpu import GpuConvolution, SentEdges
from mlip_kernels.channelwise_convolution.gpu_source import Wanted
from mlip_kernels.edges import EdgeTopology
from mlip_kernels.gpu_shapes import convolution_shape

NO_PLACES = torch.empty(0)
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-5}
ORIGIN, SPACING, KNOTS = 0.25, 0.5, 7


@pytest.fixture(autouse=True)
def _uninitialised_memory_is_not_a_number() -> Iterator[None]:
    """What no kernel has written is seen in what is computed from it."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def operands_of(table: ConvolutionTable, edges: EdgeTopology, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    count = len(edges.senders)
    shapes = (edges.num_nodes, table.input_dim), (count, table.harmonics_dim), (count, table.weight_dim)
    features, harmonics, weights = normal(5, *shapes, dtype=dtype)
    return features, harmonics, weights


def places_of(lengths: Tensor) -> Tensor:
    return torch.cat([lengths, lengths.new_tensor([ORIGIN, 1 / SPACING])])


def interpolated(coefficients: Tensor, lengths: Tensor, derivative: int) -> Tensor:
    """Weights of the edges by scipy, the outermost polynomials continued beyond the knots, [edges, weight_dim]."""
    knots = ORIGIN + SPACING * np.arange(-3, KNOTS + 1)
    splines = BSpline(knots, coefficients.double().numpy(), 3, extrapolate=True).derivative(derivative)
    return torch.tensor(splines(lengths.double().numpy()))


def assert_near(actual: Tensor | None, expected: Tensor, dtype: torch.dtype) -> None:
    assert actual is not None
    assert actual.dtype == dtype
    scale = 1.0 + expected.abs().max().item() if expected.numel() else 1.0
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=TOLERANCE[dtype] * scale)


def check_against_reference(table: ConvolutionTable, edges: EdgeTopology, dtype: torch.dtype) -> None:
    operands = operands_of(table, edges, dtype)
    exact = [operand.double().requires_grad_() for operand in operands]
    expected = ReferenceConvolution(table)(*exact, edges)
    (received,) = normal(6, tuple(expected.shape), dtype=dtype)
    gradients = torch.autograd.grad(expected, exact, received.double())
    operation = GpuConvolution(table)
    graph = NO_PLACES, edges.senders, edges.starts
    assert_near(operation.forward(*operands, *graph), expected.detach(), dtype)
    result = operation.derivatives(received, *operands, *graph)
    assert result.lengths is None
    for actual, gradient in zip((result.features, result.harmonics, result.weights), gradients, strict=True):
        assert_near(actual, gradient, dtype)


@pytest.mark.parametrize(("seed", "dtype"), [(0, torch.float64), (1, torch.float32), (2, torch.float64)])
def test_any_table_equals_the_reference(seed: int, dtype: torch.dtype) -> None:
    check_against_reference(random_table(seed), random_edges([2, 0, 3, 1], seed), dtype)


def test_several_blocks_of_channels_the_last_not_full() -> None:
    check_against_reference(convolution_shape((40, 33), 1, even=False), random_edges([1, 2], 1), torch.float64)


def test_irreps_of_unequal_channels() -> None:
    check_against_reference(convolution_shape((5, 3, 2), 2, even=False), random_edges([3, 0, 2], 1), torch.float64)


def test_more_columns_to_sum_than_lanes() -> None:
    """Harmonics of degree 0 and 5 span 36 columns; between the two inputs lie two columns without a path."""
    generator = np.random.default_rng(0)
    first = ConvolutionPath(0, 0, 0, 0, 2, 0, 2, generator.normal(size=(1, 1, 1)))
    second = ConvolutionPath(4, 25, 2, 2, 2, 0, 2, generator.normal(size=(1, 11, 3)))
    table = ConvolutionTable((first, second), 6, 36, 4, 8)
    check_against_reference(table, random_edges([2, 1], 3), torch.float64)


def test_paths_in_several_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_groups, "_REGISTERS", {"forward": 8, "gradients": 8, "coefficients": 8})
    table = convolution_shape((2, 2), 1, even=False)
    assert len(gpu_groups.path_groups(table, "gradients", 8)) > 2
    check_against_reference(table, random_edges([2, 1], 3), torch.float64)


def test_edges_in_several_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    table = convolution_shape((2, 1), 1)
    # Five edges a range, so that both ends of ranges lie within and between the edges of receivers.
    monkeypatch.setattr(gpu, "_BUFFER_BYTES", 5 * table.input_dim * 8)
    for degrees in ([7, 0, 1, 0], [5, 5]):
        check_against_reference(table, random_edges(degrees, 2), torch.float64)


@pytest.mark.parametrize("degrees", [[], [0], [0, 0]])
def test_no_edges(degrees: list[int]) -> None:
    check_against_reference(convolution_shape((2,), 1), random_edges(degrees, 0), torch.float32)


@pytest.mark.parametrize("derivative", range(4))
def test_tabulated_weights_equal_those_by_scipy(derivative: int) -> None:
    table = convolution_shape((2, 1), 1, even=False)
    edges = random_edges([3, 0, 4], derivative)
    features, harmonics, _ = operands_of(table, edges, torch.float64)
    # The first three edges lie outside of the table, and one on a knot.
    lengths = torch.tensor([0.05, 2.4, 3.1, ORIGIN + SPACING, 0.3, 1.61, 2.2], dtype=torch.float64)
    (coefficients,) = normal(8, (KNOTS, table.weight_dim))
    operation = GpuConvolution(table, tabulated=True)
    graph = places_of(lengths), edges.senders, edges.starts
    result = operation.forward(features, harmonics, coefficients, *graph, derivative)
    weights = interpolated(coefficients, lengths, derivative)
    assert_near(result, ReferenceConvolution(table)(features, harmonics, weights, edges), torch.float64)


@pytest.fixture
def operation(monkeypatch: pytest.MonkeyPatch) -> op.KernelConvolution:
    """The registered operation of a small table, which takes Triton's kernels for tensors on the CPU."""

    def by_operations(ctx: Any, cotangents: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        # As on a GPU, second derivatives are to consist of calls of the registered operations.
        with torch.enable_grad():
            return op._differentiate_gradients(ctx, *cotangents)[:5]

    monkeypatch.setattr(op, "_second_on_cpu", by_operations)
    # Numba's programs are not to stand in for Triton's.
    monkeypatch.delattr(op, "_cpu")
    coupling = np.random.default_rng(0).normal(size=(1, 3, 1))
    table = ConvolutionTable((ConvolutionPath(0, 1, 0, 0, 2, 0, 2, coupling),), 2, 4, 2, 2)
    programs = {tabulated: GpuConvolution(table, tabulated) for tabulated in (False, True)}

    @op.convolve.register_kernel("cpu")
    def _(*operands: Any) -> Tensor:
        *tensors, _, derivative = operands
        return programs[derivative != op.GIVEN].forward(*tensors, max(derivative, 0))

    @op.gradients.register_kernel("cpu")
    def _(*operands: Any) -> tuple[Tensor, ...]:
        *tensors, _, derivative = operands
        features, per_edge, weights = programs[derivative != op.GIVEN].gradients(*tensors, max(derivative, 0))
        places = torch.zeros_like(tensors[4])
        if derivative != op.GIVEN:
            places[:-2] = per_edge[:, 0]
            per_edge[:, 0] = 0.0
        return features, per_edge, weights, places

    return op.KernelConvolution(table)


@pytest.mark.parametrize("tabulated", [False, True], ids=["given", "tabulated"])
def test_derivatives_of_the_registered_operation(operation: op.KernelConvolution, tabulated: bool) -> None:
    """First and second derivatives by finite differences."""
    edges = random_edges([1, 0, 1], 4)
    x, y, w = operands_of(operation.table, edges, torch.float64)
    y, lengths = y[:, 1:], torch.tensor([0.4, 0.9], dtype=torch.float64)
    if tabulated:
        (w,) = normal(8, (5, operation.table.weight_dim))
    for operand in (x, y, w, lengths):
        operand.requires_grad_()
    constant = torch.ones(2, 1, dtype=torch.float64)

    def function(x: Tensor, y: Tensor, w: Tensor, *lengths: Tensor) -> Tensor:
        harmonics = torch.cat([constant, y], 1)
        if tabulated:
            return operation.tabulated(x, harmonics, w, places_of(*lengths), edges)
        return operation(x, harmonics, w, edges)

    operands = (x, y, w, lengths) if tabulated else (x, y, w)
    # Random projections in the place of whole Jacobians: each covers all entries.
    assert torch.autograd.gradcheck(function, operands, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, operands, fast_mode=True)


def test_what_torch_asks_of_operations(operation: op.KernelConvolution) -> None:
    edges = random_edges([1, 0, 1], 4)
    features, harmonics, _ = operands_of(operation.table, edges, torch.float64)
    coefficients, received = normal(8, (5, operation.table.weight_dim), (3, operation.table.output_dim))
    tensors = features, harmonics, coefficients, places_of(torch.tensor([0.4, 0.9], dtype=torch.float64))
    for operand in tensors:
        operand.requires_grad_()
    fixed = edges.senders, edges.starts, operation.key, 0
    torch.library.opcheck(op.convolve, (*tensors, *fixed))
    # Without what the derivatives of the derivatives have been checked for already.
    detached = [operand.detach() for operand in tensors]
    torch.library.opcheck(op.gradients, (received, *detached, *fixed))


@pytest.mark.parametrize("tabulated", [False, True], ids=["given", "tabulated"])
def test_each_derivative_alone_is_that_of_all(tabulated: bool) -> None:
    table = convolution_shape((2, 1), 1, even=False)
    edges = random_edges([2, 0, 1], 4)
    features, harmonics, weights = operands_of(table, edges, torch.float32)
    places = NO_PLACES
    if tabulated:
        places = places_of(torch.tensor([0.4, 1.1, 1.9]))
        (weights,) = normal(8, (KNOTS, table.weight_dim), dtype=torch.float32)
    (received,) = normal(6, (edges.num_nodes, table.output_dim), dtype=torch.float32)
    operands = received, features, harmonics, weights, places, edges.senders, edges.starts
    operation = GpuConvolution(table, tabulated)
    whole = operation.derivatives(*operands, sent=SentEdges.of(edges.senders, edges.num_nodes))
    none = Wanted(False, False, False, False)
    assert astuple(operation.derivatives(*operands, wanted=none)) == (None, None, None, None)
    for name in ("features", "harmonics", "weights", "lengths"):
        alone = operation.derivatives(*operands, wanted=replace(none, **{name: True}))
        for other in ("features", "harmonics", "weights", "lengths"):
            found = getattr(alone, other)
            if other != name:
                assert found is None
            elif tabulated or name != "lengths":
                assert torch.equal(found, getattr(whole, name))
