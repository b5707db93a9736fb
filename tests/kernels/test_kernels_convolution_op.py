"""The convolution's kernels as torch operations: registration, radial tables, channels, threads, and what is wanted."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from edge_cases import normal, random_edges
from kernel_cases import GRID, NEIGHBOURS, convolution_operands, convolution_table, derivatives, results, tabulated

from mlip_kernels.channelwise_convolution import (
    ConvolutionTable,
    KernelConvolution,
    ReferenceConvolution,
    cpu_tiles,
    op,
)
from mlip_kernels.edges import EdgeTopology
from mlip_kernels.radial_table import ReferenceRadialTable
from mlip_kernels.wanted import Inputs, only

TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5}


@pytest.fixture
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def reference(table: ConvolutionTable, operands: tuple[torch.Tensor, ...], edges: EdgeTopology) -> torch.Tensor:
    """The convolution with a radial table, in plain torch."""
    features, harmonics, weights, lengths = operands
    whole = torch.cat([harmonics.new_ones(len(harmonics), 1), harmonics], 1)
    interpolated = ReferenceRadialTable(GRID)(weights, lengths)
    return ReferenceConvolution(table).to(features.dtype)(features, whole, interpolated, edges)


def assert_close(actual: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float) -> None:
    for found, wanted in zip(actual, expected, strict=True):
        scale = 1.0 + wanted.abs().max().item() if wanted.numel() else 1.0
        torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(
    ("channels", "neighbours"),
    [((20, 7), NEIGHBOURS), ((48, 16), NEIGHBOURS), ((3,), [0, 0]), ((16, 32), [1])],
    ids=["no multiple of a vector", "several ranges of blocks", "no edges", "one edge"],
)
def test_radial_table(channels: tuple[int, ...], neighbours: list[int], dtype: torch.dtype) -> None:
    table = convolution_table(*channels)
    edges = random_edges(neighbours, 1)
    operands = convolution_operands(table, neighbours, dtype)
    actual = derivatives(tabulated(KernelConvolution(table), operands, edges), operands)
    assert_close(actual, derivatives(reference(table, operands, edges), operands), TOLERANCES[dtype])


def test_jacobians_with_a_radial_table() -> None:
    table = convolution_table(20, 7)
    operands = convolution_operands(table, NEIGHBOURS, torch.float64)
    edges = random_edges(NEIGHBOURS, 1)
    operation = KernelConvolution(table)
    assert torch.autograd.gradcheck(lambda *each: tabulated(operation, each, edges), operands, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *each: tabulated(operation, each, edges), operands, fast_mode=True)


def test_third_derivatives_with_a_radial_table_are_refused() -> None:
    table = convolution_table(3)
    operands = convolution_operands(table, NEIGHBOURS, torch.float64)
    output = tabulated(KernelConvolution(table), operands, random_edges(NEIGHBOURS, 1))
    first = torch.autograd.grad((output**3).sum(), operands, create_graph=True)
    second = torch.autograd.grad(sum((each**2).sum() for each in first), operands, create_graph=True)
    with pytest.raises(NotImplementedError, match="no third derivatives: give weights per edge"):
        torch.autograd.grad(sum((each**2).sum() for each in second), operands)


def test_third_derivatives_with_weights_of_edges() -> None:
    table = convolution_table(3, 5)
    edges = random_edges(NEIGHBOURS, 1)
    shapes = [(6, table.input_dim), (16, table.harmonics_dim), (16, table.weight_dim)]
    found = []
    for operation in (KernelConvolution(table), ReferenceConvolution(table)):
        operands = tuple(each.requires_grad_() for each in normal(2, *shapes))
        first = torch.autograd.grad((operation(*operands, edges) ** 3).sum(), operands, create_graph=True)
        second = torch.autograd.grad(sum((each**2).sum() for each in first), operands, create_graph=True)
        third = torch.autograd.grad(sum((each**2).sum() for each in second), operands)
        found.append([*first, *second, *third])
    assert_close(*found, 1e-12)


@pytest.mark.parametrize("derivative", [op.GIVEN, 0, 1])
def test_operations_are_registered_well(derivative: int) -> None:
    table = convolution_table(3)
    operation = KernelConvolution(table)
    edges = random_edges(NEIGHBOURS, 1)
    features, harmonics, weights, lengths = convolution_operands(table, NEIGHBOURS, torch.float64)
    whole = torch.cat([harmonics.new_ones(16, 1), harmonics], 1).detach().requires_grad_()
    places = torch.cat([lengths, lengths.new_tensor([GRID.origin + GRID.spacing, 1 / GRID.spacing])])
    if derivative == op.GIVEN:
        weights, places = normal(3, (16, table.weight_dim))[0].requires_grad_(), harmonics.new_empty(0)
    operands = (features, whole, weights, places, edges.senders, edges.starts, operation.key, derivative)
    received = normal(4, (len(NEIGHBOURS), table.output_dim))[0].requires_grad_()
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(op.convolve, operands, test_utils=tests)
    torch.library.opcheck(op.gradients, (received, *operands), test_utils=tests)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_threads_share_the_work(two_threads: None, dtype: torch.dtype) -> None:
    together, again = results(dtype), results(dtype)
    torch.set_num_threads(1)
    alone = results(dtype)
    assert all(torch.equal(first, second) for first, second in zip(together, again, strict=True))
    assert_close(together, alone, TOLERANCES[dtype])


def test_processors_with_shorter_vectors() -> None:
    """AVX2 has half the lanes of AVX-512 and half its registers, so that all layouts differ."""
    environment = {**os.environ, "NUMBA_CPU_NAME": "x86-64-v3", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).with_name("kernel_cases.py"))]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env=environment).stdout
    expected = [float(each.double().abs().sum()) for each in results(torch.float64)]
    assert [float(line) for line in printed.split()] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("channels", [(20, 7), (48, 16)], ids=["no multiple of a vector", "whole vectors"])
@pytest.mark.parametrize("constant", [True, False], ids=["constant features", "features that change"])
def test_passes_for_positions_and_parameters_have_the_gradients_of_full_ones(
    channels: tuple[int, ...], constant: bool
) -> None:
    table = convolution_table(*channels)
    edges = random_edges(NEIGHBOURS, 1)
    features, harmonics, weights, lengths = operands = convolution_operands(table, NEIGHBOURS, torch.float64)
    changing = (harmonics, lengths) if constant else (harmonics, lengths, features)
    found = []
    for positions, parameters in (("all", "all"), ("positions", "parameters")):
        output = tabulated(KernelConvolution(table), operands, edges)
        with only(positions):  # type: ignore[arg-type]
            forces = torch.autograd.grad((output**2).sum(), changing, create_graph=True)
        with only(parameters):  # type: ignore[arg-type]
            found.append([*forces, *torch.autograd.grad(sum((each**2).sum() for each in forces), (features, weights))])
    assert_close(found[1], found[0], 1e-14)


@pytest.mark.parametrize("wish", ["all", "parameters"])
def test_tiles_of_receivers_do_not_matter(wish: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    table = convolution_table(20, 7)
    edges = random_edges(NEIGHBOURS, 1)
    operands = convolution_operands(table, NEIGHBOURS, torch.float64)
    found = []
    for size in (512, 4, 1):
        monkeypatch.setattr(cpu_tiles, "EDGES_OF_TILE", size)
        output = tabulated(KernelConvolution(table), operands, edges)
        forces = torch.autograd.grad((output**2).sum(), operands[1:], create_graph=True)
        with only(wish):
            second = torch.autograd.grad(sum((each**2).sum() for each in forces[1:]), (operands[0], operands[2]))
        found.append([output, *forces, *second])
    for other in found[1:]:
        assert_close(other, found[0], 1e-15)


@pytest.mark.parametrize("channels", [(20, 7), (48, 16)], ids=["no multiple of a vector", "whole vectors"])
def test_second_derivatives_with_weights_of_edges(channels: tuple[int, ...]) -> None:
    table = convolution_table(*channels)
    edges = random_edges(NEIGHBOURS, 1)
    shapes = [(len(NEIGHBOURS), table.input_dim), (sum(NEIGHBOURS), table.harmonics_dim)]
    shapes.append((sum(NEIGHBOURS), table.weight_dim))
    operands = [each.requires_grad_() for each in normal(4, *shapes)]
    found = []
    for module in (KernelConvolution(table), ReferenceConvolution(table)):
        output = module(*operands, edges)
        first = torch.autograd.grad(output, operands, normal(5, output.shape), create_graph=True)
        changes = normal(6, *(each.shape for each in first))
        found.append(list(torch.autograd.grad(first, operands, changes)))
    assert_close(found[0], found[1], 1e-12)
