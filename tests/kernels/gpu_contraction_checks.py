"""Checks of the contraction's Triton kernels, run by `test_kernels_gpu_contraction.py` in Triton's interpreter."""

from typing import Any

import numpy as np
import pytest
import torch
from test_kernels_contraction import random_operands, random_table
from torch import Tensor

from mlip_kernels.gpu_shapes import contraction_shape
from mlip_kernels.symmetric_contraction import ContractionTable, ReferenceContraction, gpu_source
from mlip_kernels.symmetric_contraction.gpu import GpuContraction

TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-5}


class Contract(torch.autograd.Function):
    """A contraction whose derivatives are composed as the docstring of `gpu` tells; `fixed` has elements and order."""

    @staticmethod
    def forward(ctx: Any, operation: GpuContraction, x: Tensor, c: Tensor, *fixed: Tensor) -> Tensor:
        ctx.operation, ctx.fixed = operation, fixed
        ctx.save_for_backward(x, c)
        return operation.forward(x, c, *fixed)

    @staticmethod
    def backward(ctx: Any, received: Tensor) -> Any:
        return None, *Derive.apply(ctx.operation, received, *ctx.saved_tensors, *ctx.fixed), None, None


class Derive(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, operation: GpuContraction, received: Tensor, x: Tensor, c: Tensor, *fixed: Tensor) -> Any:
        ctx.operation, ctx.fixed = operation, fixed
        ctx.save_for_backward(received, x, c)
        return operation.gradients(received, x, c, *fixed)

    @staticmethod
    def backward(ctx: Any, a: Tensor, b: Tensor) -> Any:
        received, x, c = ctx.saved_tensors
        of_received = ctx.operation.tangent(x, c, a, b, *ctx.fixed)
        return None, of_received, *ctx.operation.gradients_tangent(received, x, c, a, b, *ctx.fixed), None, None


def derivatives(output: Tensor, operands: list[Tensor]) -> list[Tensor]:
    """First and second derivatives of a function of the output, as a loss on forces takes them."""
    first = torch.autograd.grad((output**3).sum(), operands, create_graph=True)
    return [*first, *torch.autograd.grad(sum((gradient**2).sum() for gradient in first), operands)]


def check_against_reference(table: ContractionTable, channels: int, dtype: torch.dtype, num_nodes: int = 3) -> None:
    features, weights, elements = random_operands(table, num_nodes, channels, 3, 1)
    # Small numbers keep third powers and squares of sums within the range in which float32 has its digits.
    features, weights = (features * 0.5).requires_grad_(), (weights * 0.5).requires_grad_()
    expected = ReferenceContraction(table)(features, weights, elements)
    wanted = [expected, *derivatives(expected, [features, weights])]
    operation = GpuContraction(table, channels)
    x, w = (operand.detach().to(dtype).requires_grad_() for operand in (features, weights))
    collapse = torch.tensor(operation.plan.collapse, dtype=dtype)
    output = Contract.apply(operation, x, collapse @ w, elements, elements.argsort(stable=True))
    output = output.flatten(1)
    for actual, exact in zip([output, *derivatives(output, [x, w])], wanted, strict=True):
        assert actual.dtype == dtype
        scale = 1.0 + exact.abs().max().item() if exact.numel() else 1.0
        torch.testing.assert_close(actual.detach().double(), exact.detach(), rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", [1, 4])
def test_values_and_derivatives_equal_those_of_the_reference(seed: int, dtype: torch.dtype) -> None:
    check_against_reference(random_table(seed), 3, dtype)


def test_several_blocks_of_channels_the_last_not_full() -> None:
    check_against_reference(contraction_shape(1, (0, 1), 2), 40, torch.float64)


def test_monomials_in_several_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_source, "_ROWS", 6)
    monkeypatch.setattr(gpu_source, "_SUMS", 6 * 8)
    check_against_reference(contraction_shape(1, (0, 1), 3), 2, torch.float64)


def test_no_atoms() -> None:
    check_against_reference(contraction_shape(1, (0, 1), 2), 2, torch.float32, num_nodes=0)


def test_derivatives_equal_finite_differences() -> None:
    table = contraction_shape(1, (0, 1), 2)
    operation = GpuContraction(table, 1)
    generator = np.random.default_rng(0)
    elements = torch.tensor([1, 0])
    x = torch.tensor(generator.normal(size=(2, 4, 1)), requires_grad=True)
    c = torch.tensor(generator.normal(size=(2, len(operation.plan.rows), 1)), requires_grad=True)
    fixed = elements, elements.argsort()
    # Random projections in the place of whole Jacobians: each covers all entries.
    assert torch.autograd.gradcheck(lambda x, c: Contract.apply(operation, x, c, *fixed), (x, c), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x, c: Contract.apply(operation, x, c, *fixed), (x, c), fast_mode=True)
