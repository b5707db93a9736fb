"""Triton's kernels of the factorised product, interpreted on the CPU; run by test_kernels_gpu_interpreted.py."""

import pytest
import torch
from edge_cases import normal

from mlip_kernels.factorised_product import KernelFactorisedProduct, gpu, op, reference


@pytest.fixture(autouse=True)
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the operation take Triton's kernels for tensors on the CPU."""
    monkeypatch.setattr(op, "kernels", lambda operation, device: gpu)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [(3, 3), (35, 1), (1, 35), (1, 1)])
@pytest.mark.parametrize("summed", [False, True])
def test_values_are_those_of_the_reference(channels: tuple[int, int], summed: bool, dtype: torch.dtype) -> None:
    given = normal(1, (3, 4, channels[0]), (3, 17, channels[1]), (19, 4), (19, 17), (19, 5), dtype=dtype)
    expected = reference.product(*(each.double() for each in given), summed)
    actual = op.product(*given, summed)
    assert actual.dtype == dtype
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-13}[dtype] * expected.abs().max().item()
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("channels", [(2, 2), (2, 1), (1, 2)])
def test_derivatives(channels: tuple[int, int]) -> None:
    x, y, *tables = normal(2, (2, 2, channels[0]), (2, 3, channels[1]), (3, 2), (3, 3), (3, 2))
    operands = x.requires_grad_(), y.requires_grad_()
    operation = KernelFactorisedProduct()
    assert torch.autograd.gradcheck(lambda x, y: operation(x, y, *tables), operands, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x, y: operation(x, y, *tables), operands, fast_mode=True)


def test_the_operation_is_sound() -> None:
    x, y, *tables = normal(3, (2, 2, 2), (2, 3, 1), (3, 2), (3, 3), (3, 2))
    torch.library.opcheck(op.product, (x.requires_grad_(), y.requires_grad_(), *tables, False))
