"""Checks of the convolution's Triton kernels, run by `test_kernels_gpu_convolution.py` in Triton's interpreter."""

from dataclasses import astuple, replace
from functools import cache
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
)
from mlip_kernels.channelwise_convolution.gpu import GpuConvolution, Gradients, SentEdges
from mlip_kernels.channelwise_convolution.gpu_source import Wanted
from mlip_kernels.edges import EdgeTopology
from mlip_kernels.gpu_shapes import convolution_shape

NO_PLACES = torch.empty(0)
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-5}
ORIGIN, SPACING, KNOTS = 0.25, 0.5, 7


def starts_of(edges: EdgeTopology) -> Tensor:
    return torch.searchsorted(edges.receivers, torch.arange(edges.num_nodes + 1))


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
    graph = NO_PLACES, edges.senders, starts_of(edges)
    assert_near(operation.forward(*operands, *graph), expected.detach(), dtype)
    result = operation.gradients(received, *operands, *graph)
    assert result.lengths is None
    for actual, gradient in zip((result.features, result.harmonics, result.weights), gradients, strict=True):
        assert_near(actual, gradient, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(3))
def test_any_table_equals_the_reference(seed: int, dtype: torch.dtype) -> None:
    check_against_reference(random_table(seed), random_edges([2, 0, 3, 1], seed), dtype)


def test_several_blocks_of_channels_the_last_not_full() -> None:
    check_against_reference(convolution_shape((40, 33), 1, even=False), random_edges([1, 2], 1), torch.float64)


def test_irreps_of_unequal_channels() -> None:
    check_against_reference(convolution_shape((5, 3, 2), 2, even=False), random_edges([3, 0, 2], 1), torch.float64)


def test_more_columns_to_sum_than_lanes() -> None:
    """Harmonics of degree 0 and 5 span 36 columns, with the first path's input left without a path beside."""
    generator = np.random.default_rng(0)
    first = ConvolutionPath(0, 0, 0, 0, 2, 0, 2, generator.normal(size=(1, 1, 1)))
    second = ConvolutionPath(2, 25, 2, 2, 2, 0, 2, generator.normal(size=(1, 11, 3)))
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
    for degrees in ([7, 0, 4, 0], [5, 5], [0, 6]):
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
    operation = GpuConvolution(table, derivative)
    result = operation.forward(features, harmonics, coefficients, places_of(lengths), edges.senders, starts_of(edges))
    weights = interpolated(coefficients, lengths, derivative)
    assert_near(result, ReferenceConvolution(table)(features, harmonics, weights, edges), torch.float64)


@cache
def family(table: ConvolutionTable, derivative: int | None) -> GpuConvolution:
    return GpuConvolution(table, derivative)


class Convolve(torch.autograd.Function):
    """A convolution whose derivatives are convolutions; `fixed` is table, derivative, senders and starts."""

    @staticmethod
    def forward(ctx: Any, fixed: Any, x: Tensor, y: Tensor, w: Tensor, lengths: Tensor | None) -> Tensor:
        ctx.fixed, ctx.lengths = fixed, lengths
        ctx.save_for_backward(x, y, w)
        return convolve(fixed, x, y, w, lengths)

    @staticmethod
    def backward(ctx: Any, received: Tensor) -> Any:
        return None, *Derive.apply(ctx.fixed, received, *ctx.saved_tensors, ctx.lengths)


class Derive(torch.autograd.Function):
    """The first derivatives, whose derivatives are composed as the docstring of `gpu` tells."""

    @staticmethod
    def forward(ctx: Any, fixed: Any, received: Tensor, x: Tensor, y: Tensor, w: Tensor, lengths: Tensor | None) -> Any:
        ctx.fixed, ctx.lengths = fixed, lengths
        ctx.save_for_backward(received, x, y, w)
        found = derive(fixed, received, x, y, w, lengths)
        return found.features, found.harmonics, found.weights, found.lengths

    @staticmethod
    def backward(ctx: Any, a: Tensor, b: Tensor, c: Tensor, d: Tensor | None) -> Any:
        (received, x, y, w), lengths, fixed = ctx.saved_tensors, ctx.lengths, ctx.fixed
        terms = [(fixed, a, y, w), (fixed, x, b, w), (fixed, x, y, c)]
        if d is not None:
            terms.append((replace_derivative(fixed), x, d[:, None] * y, w))
        of_received = sum(convolve(*term, lengths) for term in terms)
        found = [derive(term[0], received, *term[1:], lengths) for term in terms]
        of_x = sum(each.features for number, each in enumerate(found) if number != 0)
        of_w = sum(each.weights for number, each in enumerate(found) if number != 2)
        of_y = found[0].harmonics + found[2].harmonics
        of_lengths = None
        if d is not None:
            of_y = of_y + d[:, None] * found[3].harmonics
            of_lengths = sum(each.lengths for each in found)
        return None, of_received, of_x, of_y, of_w, of_lengths


def convolve(fixed: Any, x: Tensor, y: Tensor, w: Tensor, lengths: Tensor | None) -> Tensor:
    table, derivative, senders, starts = fixed
    places = NO_PLACES if lengths is None else places_of(lengths)
    return family(table, derivative).forward(x, y, w, places, senders, starts)


def derive(fixed: Any, received: Tensor, x: Tensor, y: Tensor, w: Tensor, lengths: Tensor | None) -> Gradients:
    table, derivative, senders, starts = fixed
    places = NO_PLACES if lengths is None else places_of(lengths)
    return family(table, derivative).gradients(received, x, y, w, places, senders, starts)


def replace_derivative(fixed: Any) -> Any:
    table, derivative, senders, starts = fixed
    return table, derivative + 1, senders, starts


@pytest.mark.parametrize("tabulated", [False, True], ids=["given", "tabulated"])
def test_first_and_second_derivatives(tabulated: bool) -> None:
    coupling = np.random.default_rng(0).normal(size=(1, 3, 1))
    table = ConvolutionTable((ConvolutionPath(0, 1, 0, 0, 2, 0, 2, coupling),), 2, 4, 2, 2)
    edges = random_edges([1, 0, 1], 4)
    x, y, w = (operand.requires_grad_() for operand in operands_of(table, edges, torch.float64))
    fixed = table, 0 if tabulated else None, edges.senders, starts_of(edges)
    operands: tuple[Tensor | None, ...] = (x, y, w, None)
    if tabulated:
        (coefficients,) = normal(8, (5, table.weight_dim))
        lengths = torch.tensor([0.4, 0.9], dtype=torch.float64)
        operands = (x, y, coefficients.requires_grad_(), lengths.requires_grad_())
    # Random projections in the place of whole Jacobians: each covers all entries.
    assert torch.autograd.gradcheck(lambda *args: Convolve.apply(fixed, *args), operands, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *args: Convolve.apply(fixed, *args), operands, fast_mode=True)


@pytest.mark.parametrize("derivative", [None, 0])
def test_each_derivative_alone_is_that_of_all(derivative: int | None) -> None:
    table = convolution_shape((2, 1), 1, even=False)
    edges = random_edges([2, 0, 1], 4)
    features, harmonics, weights = operands_of(table, edges, torch.float32)
    places = NO_PLACES
    if derivative is not None:
        places = places_of(torch.tensor([0.4, 1.1, 1.9]))
        (weights,) = normal(8, (KNOTS, table.weight_dim), dtype=torch.float32)
    (received,) = normal(6, (edges.num_nodes, table.output_dim), dtype=torch.float32)
    operands = received, features, harmonics, weights, places, edges.senders, starts_of(edges)
    operation = GpuConvolution(table, derivative)
    whole = operation.gradients(*operands, SentEdges.of(edges.senders, edges.num_nodes))
    none = Wanted(False, False, False, False)
    assert astuple(operation.gradients(*operands, wanted=none)) == (None, None, None, None)
    for name in ("features", "harmonics", "weights", "lengths"):
        alone = operation.gradients(*operands, wanted=replace(none, **{name: True}))
        for other in ("features", "harmonics", "weights", "lengths"):
            found = getattr(alone, other)
            if other != name:
                assert found is None
            elif derivative is not None or name != "lengths":
                assert torch.equal(found, getattr(whole, name))
