"""Triton's kernels of the factorised convolution, interpreted on the CPU; run by test_kernels_gpu_interpreted.py."""

import pytest
import torch
from edge_cases import normal, random_edges

from mlip_kernels.factorised_convolution import KernelFactorisedConvolution, ReferenceFactorisedConvolution, gpu, op


@pytest.fixture(autouse=True)
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the operations take Triton's kernels for tensors on the CPU."""
    monkeypatch.setattr(op, "kernels", lambda operation, device: gpu)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("points", "rows", "channels"), [(1, 1, 1), (17, 2, 35)])
def test_values_and_gradients_are_those_of_the_reference(
    points: int, rows: int, channels: int, dtype: torch.dtype
) -> None:
    edges = random_edges([0, 3, 1], 1)
    given = normal(2, (3, points, channels), (4, rows, points), (4, rows, channels))
    results = []
    for operation, real in ((ReferenceFactorisedConvolution, torch.float64), (KernelFactorisedConvolution, dtype)):
        operands = [each.to(real).requires_grad_() for each in given]
        output = operation()(*operands, edges)
        results.append([output, *torch.autograd.grad(output.pow(2).sum(), operands)])
    for expected, actual in zip(*results, strict=True):
        assert actual.dtype == dtype
        tolerance = {torch.float32: 1e-5, torch.float64: 1e-13}[dtype] * expected.abs().max().item()
        torch.testing.assert_close(actual.double(), expected, rtol=0, atol=tolerance)


def test_derivatives_of_second_order() -> None:
    edges = random_edges([2, 1], 3)
    operands = [each.requires_grad_() for each in normal(4, (2, 2, 2), (3, 1, 2), (3, 1, 2))]
    operation = KernelFactorisedConvolution()
    assert torch.autograd.gradgradcheck(lambda *each: operation(*each, edges), operands, fast_mode=True)


def test_the_operation_is_sound() -> None:
    edges = random_edges([2, 1], 3)
    values, filters, weights = normal(4, (2, 2, 2), (3, 1, 2), (3, 1, 2))
    arguments = values.requires_grad_(), filters, weights, edges.senders, edges.receivers, 2
    torch.library.opcheck(op.convolve, arguments)
