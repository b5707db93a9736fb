"""Radial bases and cutoff against closed formulas, their defining conditions and quadrature."""

import math

import numpy as np
import pytest
import torch

from mlip.nn.radial import BesselBasis, GaussianBasis, RadialEmbedding, polynomial_cutoff, xplor_cutoff

CUTOFF = 4.3


def distances(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.linspace(0.05, CUTOFF, 97, dtype=dtype)


@pytest.mark.parametrize("power", [2, 3, 5, 6, 8])
def test_cutoff_is_the_polynomial_with_three_zeros_at_the_end(power: int) -> None:
    """1 + a x^p + b x^(p+1) + c x^(p+2) whose value, slope and curvature vanish at x = 1, by solving for a, b, c."""
    powers = np.array([power, power + 1, power + 2])
    conditions = np.stack([np.ones(3), powers, powers * (powers - 1)])
    coefficients = np.linalg.solve(conditions, [-1.0, 0.0, 0.0])
    x = distances().numpy() / CUTOFF
    expected = 1.0 + (x[:, None] ** powers) @ coefficients
    np.testing.assert_allclose(polynomial_cutoff(distances(), CUTOFF, power), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cutoff_is_one_at_zero_and_nothing_from_the_cutoff_on(dtype: torch.dtype) -> None:
    ends = torch.tensor([0.0, CUTOFF, CUTOFF + 1e-3, 3 * CUTOFF, 1e6], dtype=dtype)
    assert polynomial_cutoff(ends, CUTOFF, 6).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("power", [2, 6])
@pytest.mark.parametrize("side", [-1e-9, 0.0, 1e-9])
def test_first_and_second_derivatives_of_the_cutoff_vanish_at_its_end(power: int, side: float) -> None:
    r = torch.tensor(CUTOFF + side, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(polynomial_cutoff(r, CUTOFF, power), r, create_graph=True)
    (second,) = torch.autograd.grad(first, r)
    assert abs(first.item()) < 1e-13
    # The third derivative, of the order of p^3 / r_c^3, times the distance from the end.
    assert abs(second.item()) < 1e-8


@pytest.mark.parametrize("power", [2, 6, 12])
def test_slope_of_the_cutoff_in_single_precision(power: int) -> None:
    """Forces are no better than this slope; terms of the size of p^2 that cancel would cost two digits."""
    r = torch.linspace(0.01, CUTOFF, 500, requires_grad=True)
    (slope,) = torch.autograd.grad(polynomial_cutoff(r, CUTOFF, power).sum(), r)
    x = r.detach().double() / CUTOFF
    exact = -power * (power + 1) * (power + 2) / 2 * x ** (power - 1) * (1 - x) ** 2 / CUTOFF
    assert (slope - exact).abs().max() < 1e-6 * exact.abs().max()


def test_cutoff_takes_one_end_per_distance() -> None:
    r, ends = torch.tensor([1.0, 1.0, 3.0]), torch.tensor([2.0, 4.0, 3.0])
    each = [polynomial_cutoff(r[i], ends[i].item(), 6).item() for i in range(3)]
    assert polynomial_cutoff(r, ends, 6).tolist() == each


def test_bessel_functions_follow_their_formula() -> None:
    basis = BesselBasis(8, CUTOFF)
    n, r = np.arange(1, 9), distances().numpy()[:, None]
    expected = math.sqrt(2 / CUTOFF) * np.sin(n * np.pi * r / CUTOFF) / r
    np.testing.assert_allclose(basis(distances()), expected, rtol=0, atol=1e-13)


def test_bessel_functions_are_orthonormal_in_the_ball() -> None:
    nodes, weights = np.polynomial.legendre.leggauss(60)
    r, w = (nodes + 1) * CUTOFF / 2, weights * CUTOFF / 2
    values = BesselBasis(8, CUTOFF)(torch.tensor(r)).numpy()
    np.testing.assert_allclose(values.T @ (values * (w * r**2)[:, None]), np.eye(8), atol=1e-12)


def test_bessel_functions_and_their_slopes_are_finite_at_zero() -> None:
    r = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    values = BesselBasis(3, CUTOFF)(r)
    expected = math.sqrt(2 / CUTOFF) * np.pi * np.arange(1, 4) / CUTOFF
    np.testing.assert_allclose(values.detach()[0], expected, rtol=1e-14)
    (slope,) = torch.autograd.grad(values.sum(), r)
    assert slope.item() == 0.0


def test_frequencies_are_state_and_no_parameter() -> None:
    basis = BesselBasis(5, CUTOFF)
    assert list(basis.state_dict()) == ["frequencies"]
    assert not list(basis.parameters())
    basis.frequencies.copy_(torch.tensor([1.1, 2.0, 3.0, 4.0, 5.0]))
    r = torch.tensor([0.7], dtype=torch.float64)
    assert basis(r)[0, 0].item() == pytest.approx(math.sqrt(2 / CUTOFF) * math.sin(1.1 * math.pi * 0.7 / CUTOFF) / 0.7)


def test_gaussians_peak_at_equal_steps_and_are_one_step_wide() -> None:
    functions = 6
    step = CUTOFF / (functions - 1)
    centres = torch.arange(functions, dtype=torch.float64) * step
    basis = GaussianBasis(functions, CUTOFF)
    lag = torch.arange(functions)[:, None] - torch.arange(functions)
    torch.testing.assert_close(basis(centres), torch.exp(-0.5 * lag.double() ** 2), rtol=0, atol=1e-14)


def test_a_single_gaussian_is_a_gaussian_of_the_width_of_the_cutoff() -> None:
    r = torch.tensor([0.0, CUTOFF], dtype=torch.float64)
    np.testing.assert_allclose(GaussianBasis(1, CUTOFF)(r)[:, 0], [1.0, math.exp(-0.5)], rtol=1e-14)


@pytest.mark.parametrize("onset", [0.0, 2.0, 4.2])
def test_xplor_cutoff_is_one_up_to_its_onset_and_falls_by_a_polynomial_of_the_square(onset: float) -> None:
    """In s = r² a cubic with the values 1 and 0 and no slope at the ends, by solving for its coefficients."""
    conditions = []
    for s in (onset**2, CUTOFF**2):
        conditions += [[1.0, s, s**2, s**3], [0.0, 1.0, 2.0 * s, 3.0 * s**2]]
    coefficients = np.linalg.solve(conditions, [1.0, 0.0, 0.0, 0.0])
    r = distances().numpy()
    expected = np.where(r < onset, 1.0, np.polynomial.polynomial.polyval(r**2, coefficients))
    np.testing.assert_allclose(xplor_cutoff(distances(), CUTOFF, onset), expected, rtol=0, atol=1e-9)
    beyond = torch.tensor([CUTOFF, CUTOFF + 1e-3, 1e6])
    assert not xplor_cutoff(beyond, CUTOFF, onset).any()


@pytest.mark.parametrize("place", [2.0, CUTOFF])
def test_xplor_cutoff_has_no_slope_at_its_ends(place: float) -> None:
    r = torch.tensor([place - 1e-7, place + 1e-7], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(xplor_cutoff(r, CUTOFF, 2.0).sum(), r)
    assert slope.abs().max() < 1e-6


def test_embedding_with_an_onset_takes_the_xplor_cutoff() -> None:
    embedding = RadialEmbedding("bessel", 7, CUTOFF, 5, 3.0)
    expected = embedding.basis(distances()) * xplor_cutoff(distances(), CUTOFF, 3.0)[:, None]
    assert torch.equal(embedding(distances()), expected)


@pytest.mark.parametrize("name", ["bessel", "gaussian"])
def test_embedding_is_basis_times_cutoff(name: str) -> None:
    embedding = RadialEmbedding(name, 7, CUTOFF, 5)
    expected = embedding.basis(distances()) * polynomial_cutoff(distances(), CUTOFF, 5)[:, None]
    assert torch.equal(embedding(distances()), expected)
    beyond = torch.tensor([CUTOFF, CUTOFF + 0.1, 100.0], dtype=torch.float64)
    assert not embedding(beyond).any()


@pytest.mark.parametrize("name", ["bessel", "gaussian"])
def test_derivatives_of_the_embedding(name: str) -> None:
    embedding = RadialEmbedding(name, 4, CUTOFF, 6).double()
    r = torch.tensor([0.3, 1.0, 2.7, CUTOFF - 1e-3, CUTOFF + 0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(embedding, r)
    assert torch.autograd.gradgradcheck(embedding, r)


@pytest.mark.parametrize("name", ["bessel", "gaussian"])
def test_embedding_in_single_precision(name: str) -> None:
    embedding = RadialEmbedding(name, 8, CUTOFF, 6)
    exact = embedding(distances())
    single = embedding.float()(distances(torch.float32))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=5e-6)
    assert embedding(distances()[:0].float()).shape == (0, 8)
