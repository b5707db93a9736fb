"""The edge-matrix convolution against loops in numpy."""

import numpy as np
import pytest
import torch
from edge_cases import DEGREES, normal, random_edges

from mlip_kernels import streaming
from mlip_kernels.edge_matrix_convolution import IMPLEMENTATIONS
from mlip_kernels.edges import EdgeTopology

ROWS, COMPONENTS_OUT, COMPONENTS_IN, COPIES, CHANNELS = 2, 4, 3, 2, 2


def operands(edges: EdgeTopology, seed: int) -> list[torch.Tensor]:
    num_edges = len(edges.senders)
    return normal(
        seed,
        (edges.num_nodes, COMPONENTS_IN, COPIES, CHANNELS),
        (num_edges, ROWS, COMPONENTS_OUT, COMPONENTS_IN),
        (num_edges, ROWS, CHANNELS),
    )


def by_loops(features: np.ndarray, matrices: np.ndarray, weights: np.ndarray, edges: EdgeTopology) -> np.ndarray:
    output = np.zeros((edges.num_nodes, COMPONENTS_OUT, COPIES, CHANNELS))
    for edge, (sender, receiver) in enumerate(zip(edges.senders.tolist(), edges.receivers.tolist(), strict=True)):
        for row in range(ROWS):
            for copy in range(COPIES):
                for channel in range(CHANNELS):
                    sent = matrices[edge, row] @ features[sender, :, copy, channel]
                    output[receiver, :, copy, channel] += weights[edge, row, channel] * sent
    return output


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("degrees", DEGREES, ids=str)
@pytest.mark.parametrize("numbers", [1, 1 << 16])  # runs of one edge, and all edges in one run
def test_against_loops(name: str, degrees: list[int], numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_RUN_NUMBERS", numbers)
    edges = random_edges(degrees, 1)
    given = operands(edges, 2)
    expected = by_loops(*(each.numpy() for each in given), edges)
    np.testing.assert_allclose(IMPLEMENTATIONS[name]()(*given, edges).numpy(), expected, rtol=0, atol=1e-12)
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
    assert results[1:] == pytest.approx(results[:1], rel=1e-11)
