"""Triton's kernels of the separable moments, interpreted on the CPU; run by test_kernels_gpu_interpreted.py."""

import pytest
import torch
from edge_cases import normal

from mlip_kernels.separable_moments import gpu, op, reference, separable_evaluation, separable_moments


@pytest.fixture(autouse=True)
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the operations take Triton's kernels for tensors on the CPU."""
    monkeypatch.setattr(op, "implementation", lambda like: gpu)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("sizes", "channels", "ranks"),
    [([3, 0, 70], 1, (17, 5, 9)), ([4], 3, (2, 3, 20)), ([300], 1, (70, 1, 3)), ([3], 1, (130, 2, 2))],
)
def test_values_are_those_of_the_reference(
    sizes: list[int], channels: int, ranks: tuple[int, int, int], dtype: torch.dtype
) -> None:
    starts = torch.tensor([0, *sizes]).cumsum(0)
    particles = sum(sizes)
    charges, tensor, *factors = normal(
        1, (particles, channels), (len(sizes), channels, *ranks), *((particles, rank) for rank in ranks), dtype=dtype
    )
    actual = [op.moments(charges, *factors, starts), op.evaluation(tensor, *factors, starts)]
    actual += op.gradients(tensor, charges, *factors, starts)
    wide, *double = (each.double() for each in (charges, *factors))
    expected = [reference.moments(wide, *double, starts), reference.evaluation(tensor.double(), *double, starts)]
    expected += reference.gradients(tensor.double(), wide, *double, starts)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-13}[dtype]
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == dtype
        atol = tolerance * (1 + other.abs().max().item())
        torch.testing.assert_close(one.double(), other, rtol=0, atol=atol)


def test_slices_of_many_particles_are_summed() -> None:
    charges, *factors = normal(2, (600, 1), (600, 2), (600, 2), (600, 2))
    starts = torch.tensor([0, 600])
    expected = reference.moments(charges, *factors, starts)
    torch.testing.assert_close(separable_moments(charges, *factors, starts), expected)


def test_derivatives() -> None:
    starts = torch.tensor([0, 1, 2])
    charges, tensor, *factors = (
        each.requires_grad_() for each in normal(3, (2, 1), (2, 1, 1, 2, 1), (2, 1), (2, 2), (2, 1))
    )
    for function, first in ((separable_moments, charges), (separable_evaluation, tensor)):
        call = lambda *given, function=function: function(*given, starts)  # noqa: E731
        assert torch.autograd.gradcheck(call, (first, *factors), fast_mode=True)
        assert torch.autograd.gradgradcheck(call, (first, *factors), fast_mode=True)


def test_the_operations_are_sound() -> None:
    starts = torch.tensor([0, 2])
    charges, tensor, *factors = normal(4, (2, 1), (1, 1, 2, 2, 2), (2, 2), (2, 2), (2, 2))
    operands = [each.requires_grad_() for each in (charges, *factors)]
    torch.library.opcheck(op.moments, (*operands, starts))
    torch.library.opcheck(op.evaluation, (tensor.requires_grad_(), *factors, starts))
