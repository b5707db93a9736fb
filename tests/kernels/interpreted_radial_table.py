"""Triton's kernels of the radial table, interpreted on the CPU; run by test_kernels_gpu_interpreted.py."""

import pytest
import torch
from edge_cases import normal

from mlip_kernels.radial_table import KernelRadialTable, KnotGrid, gpu, op, reference

GRID = KnotGrid.covering(3.0, 4)
PLACE = GRID.origin, GRID.spacing
# Within, at a knot, at both ends and beyond them.
DISTANCES = [0.3, 2.9, GRID.origin, GRID.origin + GRID.spacing, GRID.origin + 1000.0, 1.4, -0.2]


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the operations take Triton's kernels for tensors on the CPU."""
    monkeypatch.setattr(op, "kernels", lambda operation, device: gpu)


def operands(columns: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    coefficients, gradient = normal(1, (GRID.knots, columns), (len(DISTANCES), columns), dtype=dtype)
    return coefficients, gradient, torch.tensor(DISTANCES, dtype=dtype)


@pytest.mark.parametrize("order", range(5))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("columns", [3, 130])
def test_values_are_those_of_the_reference(order: int, dtype: torch.dtype, columns: int) -> None:
    coefficients, gradient, distances = operands(columns, dtype)
    whole = coefficients.double().requires_grad_()
    expected = reference.interpolate(whole, distances.double(), GRID, order)
    (transposed,) = torch.autograd.grad(expected, whole, gradient.double())
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-13}[dtype]
    for actual, wanted in (
        (gpu.interpolate(coefficients, distances, *PLACE, order), expected),
        (gpu.project(gradient, distances, *PLACE, GRID.knots, order), transposed),
        (gpu.dot(gradient, coefficients, distances, *PLACE, order), (gradient * expected).sum(1)),
    ):
        assert actual.dtype == dtype
        scale = 1 + wanted.abs().max().item()
        torch.testing.assert_close(actual.double(), wanted.detach(), rtol=0, atol=tolerance * scale)


def test_the_solution_is_that_of_the_reference(on_gpu: None) -> None:
    (values,) = normal(3, (9, 35))
    coefficients = op.spline_coefficients(values)
    torch.testing.assert_close(coefficients, reference.spline_coefficients(values), rtol=0, atol=1e-13)


def test_what_is_no_number_stays_none() -> None:
    coefficients, gradient, distances = operands(3, torch.float64)
    distances[1] = torch.nan
    assert gpu.interpolate(coefficients, distances, *PLACE, 0).isnan().any(1).nonzero().tolist() == [[1]]
    assert gpu.dot(gradient, coefficients, distances, *PLACE, 1).isnan().nonzero().tolist() == [[1]]
    assert gpu.project(gradient, distances, *PLACE, GRID.knots, 0).isnan().any()


@pytest.mark.parametrize("order", [0, 1])
def test_derivatives(order: int, on_gpu: None) -> None:
    coefficients, _, distances = operands(2, torch.float64)
    inside = distances[[0, 1, 5]].requires_grad_()
    operands_given = (coefficients.requires_grad_(), inside)
    operation = KernelRadialTable(GRID)
    assert torch.autograd.gradcheck(lambda c, r: operation(c, r, order), operands_given, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda c, r: operation(c, r, order), operands_given, fast_mode=True)


def test_the_operation_is_sound(on_gpu: None) -> None:
    coefficients, _, distances = operands(3, torch.float32)
    torch.library.opcheck(op.interpolate, (coefficients.requires_grad_(), distances, GRID.origin, GRID.spacing, 0))
