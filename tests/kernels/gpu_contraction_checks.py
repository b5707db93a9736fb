"""Checks of the contraction's Triton kernels, run by `test_kernels_gpu_contraction.py` in Triton's interpreter."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from edge_cases import normal
from test_kernels_contraction import random_operands, random_table
from torch import Tensor

from mlip_kernels.gpu_shapes import contraction_shape
from mlip_kernels.symmetric_contraction import ContractionTable, ReferenceContraction, gpu_source, op
from mlip_kernels.symmetric_contraction.gpu import GpuContraction

TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-5}


@pytest.fixture(autouse=True)
def _uninitialised_memory_is_not_a_number() -> Iterator[None]:
    """What no kernel has written is seen in what is computed from it."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def with_gpu_kernels(table: ContractionTable, channels: int) -> op.KernelContraction:
    """The registered operation of a table, which takes Triton's kernels for tensors on the CPU."""
    program = GpuContraction(table, channels)

    def taking(run: Callable[..., Any]) -> Callable[..., Any]:
        # The last operand is the key of the table.
        return lambda *operands: run(*operands[:-1])

    op.contract.register_kernel("cpu")(taking(program.forward))
    op.gradients.register_kernel("cpu")(taking(program.gradients))
    op.tangent.register_kernel("cpu")(taking(program.tangent))
    op.gradients_tangent.register_kernel("cpu")(taking(program.gradients_tangent))
    return op.KernelContraction(table)


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
    operation = with_gpu_kernels(table, channels).to(dtype)
    x, w = (operand.detach().to(dtype).requires_grad_() for operand in (features, weights))
    output = operation(x, w, elements)
    for actual, exact in zip([output, *derivatives(output, [x, w])], wanted, strict=True):
        assert actual.dtype == dtype
        scale = 1.0 + exact.abs().max().item() if exact.numel() else 1.0
        torch.testing.assert_close(actual.detach().double(), exact.detach(), rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize(("seed", "dtype"), [(1, torch.float64), (4, torch.float32)])
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


def test_the_registered_operations() -> None:
    """First and second derivatives by finite differences, and what torch asks of operations."""
    table = contraction_shape(1, (0,), 2)
    operation = with_gpu_kernels(table, 1)
    x, _, elements = random_operands(table, 1, 1, 1, 0)
    c, d, received = normal(3, (1, len(operation.collapse), 1), (1, len(operation.collapse), 1), (1, 1, 1))
    y = 2 * x
    for operand in (x, c):
        operand.requires_grad_()
    key = operation.key
    # Random projections in the place of whole Jacobians: each covers all entries.
    assert torch.autograd.gradcheck(lambda x, c: op.contract(x, c, elements, key), (x, c), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x, c: op.contract(x, c, elements, key), (x, c), fast_mode=True)
    torch.library.opcheck(op.contract, (x, c, elements, key))
    # Without what the derivatives of the derivatives have been checked for already.
    received, x, c, y, d = (operand.detach() for operand in (received, x, c, y, d))
    torch.library.opcheck(op.gradients, (received, x, c, elements, key))
    torch.library.opcheck(op.tangent, (x, c, y, d, elements, key))
    torch.library.opcheck(op.gradients_tangent, (received, x, c, y, d, elements, key))


def test_an_order_may_be_given() -> None:
    table = contraction_shape(1, (0, 1), 2)
    program = GpuContraction(table, 2)
    x, _, elements = random_operands(table, 4, 2, 2, 0)
    (c,) = normal(3, (2, len(program.plan.rows), 2))
    backwards = elements.argsort(stable=True, descending=True).flip(0)
    assert torch.equal(program.forward(x, c, elements, backwards), program.forward(x, c, elements))
