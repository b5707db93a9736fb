"""The contraction's kernels as torch operations: registration, channels, elements, and derivatives of any order."""

import pytest
import torch
from edge_cases import normal
from kernel_cases import contraction_table, derivatives

from mlip_kernels.symmetric_contraction import KernelContraction, ReferenceContraction, op

TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5}
# One of the three has no atom.
ELEMENTS = torch.tensor([2, 0, 0, 2, 0, 2, 2])


def operands(channels: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    table = contraction_table()
    shapes = [(len(ELEMENTS), table.input_components, channels), (3, table.num_weights, channels)]
    return tuple(each.requires_grad_() for each in normal(1, *shapes, dtype=dtype))


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("channels", [1, 20, 48])
def test_values_and_derivatives(channels: int, dtype: torch.dtype) -> None:
    given = operands(channels, dtype)
    actual, expected = (
        derivatives(kind(contraction_table()).to(dtype)(*given, ELEMENTS), given)
        for kind in (KernelContraction, ReferenceContraction)
    )
    for found, wanted in zip(actual, expected, strict=True):
        scale = 1.0 + wanted.abs().max().item()
        torch.testing.assert_close(found, wanted, rtol=0, atol=TOLERANCES[dtype] * scale)


def test_third_derivatives() -> None:
    given = operands(3, torch.float64)
    thirds = []
    for kind in (KernelContraction, ReferenceContraction):
        output = kind(contraction_table())(*given, ELEMENTS)
        first = torch.autograd.grad((output**2).sum(), given, create_graph=True)
        second = torch.autograd.grad(sum((each**2).sum() for each in first), given, create_graph=True)
        thirds.append(torch.autograd.grad(sum((each**2).sum() for each in second), given))
    for found, wanted in zip(*thirds, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12 * wanted.abs().max().item())


def test_tables_with_equal_programs_keep_their_own_coefficients() -> None:
    first, second = contraction_table(), contraction_table()
    for term in second.terms:
        term.coefficients[...] *= -2.0
    given = operands(2, torch.float64)
    operations = KernelContraction(first), KernelContraction(second)
    assert operations[0].key == operations[1].key
    one, two = (operation(*given, ELEMENTS) for operation in operations)
    torch.testing.assert_close(two, -2.0 * one, rtol=1e-13, atol=0)


def test_operations_are_registered_well() -> None:
    operation = KernelContraction(contraction_table())
    features, weights = operands(3, torch.float64)
    coefficients = (operation.collapse @ weights).detach().requires_grad_()
    received = normal(2, (len(ELEMENTS), 4, 3))[0].requires_grad_()
    rest = (ELEMENTS, operation.key)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(op.contract, (features, coefficients, *rest), test_utils=tests)
    torch.library.opcheck(op.gradients, (received, features, coefficients, *rest), test_utils=tests)
    changes = (features, coefficients, 2.0 * features.detach(), 3.0 * coefficients.detach())
    torch.library.opcheck(op.tangent, (*changes, *rest), test_utils=tests)
    torch.library.opcheck(op.gradients_tangent, (received, *changes, *rest), test_utils=tests)
