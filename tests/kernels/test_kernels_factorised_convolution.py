"""The factorised convolution against loops in numpy, and what its derivatives keep in memory."""

import numpy as np
import pytest
import torch
from edge_cases import DEGREES, normal, random_edges

from mlip_kernels import streaming
from mlip_kernels.edges import EdgeTopology
from mlip_kernels.factorised_convolution import IMPLEMENTATIONS, op

POINTS, ROWS, CHANNELS = 4, 2, 3


def operands(
    edges: EdgeTopology, seed: int, points: int = POINTS, rows: int = ROWS, channels: int = CHANNELS
) -> list[torch.Tensor]:
    num_edges = len(edges.senders)
    return normal(seed, (edges.num_nodes, points, channels), (num_edges, rows, points), (num_edges, rows, channels))


def by_loops(values: np.ndarray, filters: np.ndarray, weights: np.ndarray, edges: EdgeTopology) -> np.ndarray:
    output = np.zeros_like(values)
    for edge, (sender, receiver) in enumerate(zip(edges.senders.tolist(), edges.receivers.tolist(), strict=True)):
        for point in range(values.shape[1]):
            for channel in range(values.shape[2]):
                factor = filters[edge, :, point] @ weights[edge, :, channel]
                output[receiver, point, channel] += factor * values[sender, point, channel]
    return output


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("degrees", DEGREES, ids=str)
@pytest.mark.parametrize("numbers", [1, 1 << 16])  # runs of one edge, and all edges in one run
def test_against_loops(name: str, degrees: list[int], numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_RUN_NUMBERS", numbers)
    edges = random_edges(degrees, 1)
    given = operands(edges, 2)
    expected = by_loops(*(each.numpy() for each in given), edges)
    np.testing.assert_allclose(IMPLEMENTATIONS[name]()(*given, edges).numpy(), expected, rtol=0, atol=1e-13)
    single = IMPLEMENTATIONS[name]()(*(each.float() for each in given), edges)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_derivatives_of_first_and_second_order(name: str) -> None:
    edges = random_edges([0, 3, 1, 2], 3)
    given = [each.requires_grad_() for each in operands(edges, 4)]
    operation = IMPLEMENTATIONS[name]()
    assert torch.autograd.gradcheck(lambda *each: operation(*each, edges), given)
    assert torch.autograd.gradgradcheck(lambda *each: operation(*each, edges), given)


def test_third_derivatives_are_those_of_the_reference() -> None:
    edges = random_edges([2, 3], 5)
    results = []
    for operation in IMPLEMENTATIONS.values():
        given = [each.requires_grad_() for each in operands(edges, 6)]
        value = operation()(*given, edges).pow(3).sum()
        for _ in range(3):
            gradients = torch.autograd.grad(value, given, create_graph=True)
            value = sum(gradient.pow(2).sum() for gradient in gradients)
        results.append(value.item())
    assert results == pytest.approx([results[0]] * len(results), rel=1e-11)


# Fewer than a vector or a block of points, whole ones, and a remainder.
@pytest.mark.parametrize(("points", "rows", "channels"), [(1, 1, 1), (8, 1, 16), (35, 3, 33), (16, 4, 32)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_of_any_size(points: int, rows: int, channels: int, dtype: torch.dtype) -> None:
    edges = random_edges([0, 5, 1, 9], 11)
    results = []
    for name, real in (("reference", torch.float64), ("kernel", dtype)):
        given = [each.to(real).requires_grad_() for each in operands(edges, 12, points, rows, channels)]
        output = IMPLEMENTATIONS[name]()(*given, edges)
        results.append([output, *torch.autograd.grad(output.pow(2).sum(), given)])
    for expected, actual in zip(*results, strict=True):
        tolerance = {torch.float32: 1e-5, torch.float64: 1e-13}[dtype] * expected.abs().max().item()
        torch.testing.assert_close(actual.double(), expected, rtol=0, atol=tolerance)


def test_the_kernels_operations_are_sound() -> None:
    edges = random_edges([2, 0, 3], 13)
    values, filters, weights = (each.requires_grad_() for each in operands(edges, 14))
    (received,) = normal(15, values.shape)
    torch.library.opcheck(op.convolve, (values, filters, weights, edges.senders, edges.receivers, 3))
    given = received.requires_grad_(), values, filters, weights, edges.senders, edges.receivers
    torch.library.opcheck(op.edge_gradients, given)


def test_the_kernels_results_do_not_depend_on_threads_or_repetition() -> None:
    edges = random_edges([9, 0, 20, 3, 7], 16)
    values, filters, weights = (each.float() for each in operands(edges, 17, 20, 2, 40))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            forward = op.convolve(values, filters, weights, edges.senders, edges.receivers, 5)
            back = op.convolve(values, filters, weights, edges.receivers, edges.senders, 5)
            gradients = op.edge_gradients(values, values, filters, weights, edges.senders, edges.receivers)
            results.append([forward, back, *gradients])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(first, second) for first, second in zip(results[0], other, strict=True))


@pytest.mark.parametrize("name", ["streamed", "kernel"])
@pytest.mark.parametrize("wanted", range(3))
def test_a_gradient_alone_is_that_of_all_together(name: str, wanted: int) -> None:
    edges = random_edges([2, 0, 3], 7)
    operation = IMPLEMENTATIONS[name]()
    together = [each.requires_grad_() for each in operands(edges, 8)]
    expected = torch.autograd.grad(operation(*together, edges).pow(2).sum(), together)[wanted]
    alone = operands(edges, 8)
    alone[wanted].requires_grad_()
    (gradient,) = torch.autograd.grad(operation(*alone, edges).pow(2).sum(), alone[wanted])
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("name", ["streamed", "kernel"])
def test_nothing_of_the_size_of_edges_times_points_times_channels_is_kept(name: str) -> None:
    edges = random_edges([40] * 10, 9)
    num_edges, points, channels = 400, 32, 16
    given = normal(10, (10, points, channels), (num_edges, ROWS, points), (num_edges, ROWS, channels))
    kept: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        values = IMPLEMENTATIONS[name]()(*(each.requires_grad_() for each in given), edges)
        gradients = torch.autograd.grad(values.pow(2).sum(), given, create_graph=True)
    assert gradients[0].shape == given[0].shape
    assert max(kept) < num_edges * points * channels // 4
