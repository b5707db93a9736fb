"""Radial tables against scipy's splines, exact functions and finite differences."""

import numpy as np
import pytest
import torch
from edge_cases import normal
from scipy.interpolate import CubicSpline

from mlip_kernels.radial_table import IMPLEMENTATIONS, KnotGrid, op, reference, spline_coefficients

GRID = KnotGrid.covering(4.0, 9)
PLACE = GRID.origin, GRID.spacing


def distances(number: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return (4.0 * torch.rand(number, generator=generator, dtype=torch.float64)).to(dtype)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("columns", [1, 5, 70])
@pytest.mark.parametrize("order", range(4))
def test_is_the_natural_cubic_spline(name: str, columns: int, order: int) -> None:
    (values,) = normal(columns, (GRID.knots, columns))
    r = distances(40)
    expected = CubicSpline(GRID.positions().numpy(), values.numpy(), bc_type="natural")(r.numpy(), order)
    table = IMPLEMENTATIONS[name](GRID)
    actual = table(spline_coefficients(values), r, order)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    single = table(spline_coefficients(values.float()), r.float(), order)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("order", "factor"), [(0, 16), (1, 8), (2, 4)])
def test_errors_fall_with_the_fourth_power_of_the_spacing(order: int, factor: int) -> None:
    """And by a power less for each derivative."""

    def exact(r: torch.Tensor, derivative: int) -> torch.Tensor:
        return ((2j - 0.3) ** derivative * torch.exp((2j - 0.3) * r)).real[:, None]

    r = torch.linspace(0.0, 5.0, 4001, dtype=torch.float64)
    errors = []
    for intervals in (32, 64, 128):
        grid = KnotGrid.covering(5.0, intervals)
        coefficients = spline_coefficients(exact(grid.positions(), 0))
        found = IMPLEMENTATIONS["kernel"](grid)(coefficients, r, order)
        errors.append((found - exact(r, order)).abs().max().item())
    assert errors[0] / errors[1] == pytest.approx(factor, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(factor, rel=0.15)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("order", range(5))
def test_zero_beyond_the_ends_and_no_number_where_there_is_none(name: str, order: int) -> None:
    (coefficients,) = normal(0, (GRID.knots, 3))
    last = GRID.positions()[-1].item()
    r = torch.tensor([GRID.origin, last, last - 1e-9, 1e300, -torch.inf, torch.nan], dtype=torch.float64)
    result = IMPLEMENTATIONS[name](GRID)(coefficients, r, order)
    assert not result[:-1].any()
    assert result[-1].isnan().all()


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("order", [0, 1])
def test_derivatives_of_first_and_second_order(name: str, order: int) -> None:
    (values,) = normal(2, (GRID.knots, 3))
    table = IMPLEMENTATIONS[name](GRID)
    given = values.requires_grad_(), distances(6).requires_grad_()
    assert torch.autograd.gradcheck(lambda c, r: table(c, r, order), given)
    assert torch.autograd.gradgradcheck(lambda c, r: table(c, r, order), given, fast_mode=True)


def test_third_derivatives_are_those_of_the_reference() -> None:
    results = []
    for operation in IMPLEMENTATIONS.values():
        (values,) = normal(4, (GRID.knots, 3))
        given = values.requires_grad_(), distances(6).requires_grad_()
        total = operation(GRID)(*given).pow(3).sum()
        for _ in range(3):
            total = sum(each.pow(2).sum() for each in torch.autograd.grad(total, given, create_graph=True))
        results.append(total.item())
    assert results[0] == pytest.approx(results[1], rel=1e-11)


def test_coefficients_and_their_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    for knots in (4, 5, 30):
        (values,) = normal(knots, (knots, 70))
        torch.testing.assert_close(
            spline_coefficients(values), reference.spline_coefficients(values), rtol=0, atol=1e-13
        )
    few = values[:6, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(spline_coefficients, few)
    assert torch.autograd.gradgradcheck(spline_coefficients, few)
    with_kernels = spline_coefficients(few.detach())
    monkeypatch.setenv("MLIP_KERNELS", "reference")
    torch.testing.assert_close(spline_coefficients(few.detach()), with_kernels, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operations_are_sound(dtype: torch.dtype) -> None:
    coefficients, gradient = normal(5, (GRID.knots, 3), (6, 3), dtype=dtype)
    given = [each.requires_grad_() for each in (coefficients, gradient, distances(6, dtype))]
    coefficients, gradient, r = given
    torch.library.opcheck(op.interpolate, (coefficients, r, *PLACE, 0))
    torch.library.opcheck(op.project, (gradient, r, *PLACE, GRID.knots, 1))
    torch.library.opcheck(op.dot, (gradient, coefficients, r, *PLACE, 1))
    torch.library.opcheck(op.solve, (coefficients.detach().double().requires_grad_(),))


def test_results_do_not_depend_on_threads_or_repetition() -> None:
    coefficients, gradient = normal(6, (GRID.knots, 150), (500, 150), dtype=torch.float32)
    r = distances(500, torch.float32)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            results.append(
                [
                    op.interpolate(coefficients, r, *PLACE, 0),
                    op.project(gradient, r, *PLACE, GRID.knots, 0),
                    op.dot(gradient, coefficients, r, *PLACE, 1),
                    op.solve(coefficients.double()),
                ]
            )
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(first, second) for first, second in zip(results[0], other, strict=True))


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_no_edges(name: str) -> None:
    (coefficients,) = normal(7, (GRID.knots, 3))
    coefficients.requires_grad_()
    result = IMPLEMENTATIONS[name](GRID)(coefficients, torch.zeros(0, dtype=torch.float64))
    assert result.shape == (0, 3)
    assert not torch.autograd.grad(result.sum(), coefficients)[0].any()


def test_bad_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="3 knots at a spacing"):
        KnotGrid(0.0, 0.1, 3)
    with pytest.raises(ValueError, match="0 intervals up to"):
        KnotGrid.covering(5.0, 0)
