"""Chebyshev polynomials against numpy's, their definition by cosines, and autograd."""

import math

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev

from mlip.electrostatics.chebyshev import (
    chebyshev_derivatives,
    chebyshev_nodes,
    chebyshev_values,
    coefficients_from_values,
)
from mlip.errors import ConfigError

COUNTS = [1, 2, 3, 4, 5, 9, 16, 17, 130]


@pytest.mark.parametrize("count", COUNTS)
def test_values_and_derivatives_are_numpys(count: int) -> None:
    x = torch.linspace(-1, 1, 301, dtype=torch.float64)
    values, derivatives = chebyshev_values(x, count), chebyshev_derivatives(x, count)
    assert values.shape == derivatives.shape == (301, count)
    np.testing.assert_allclose(values, chebyshev.chebvander(x.numpy(), count - 1), rtol=0, atol=2e-15 * count**2)
    expected = np.stack([chebyshev.chebval(x.numpy(), chebyshev.chebder(row)) for row in np.eye(count)], axis=1)
    np.testing.assert_allclose(derivatives, expected, rtol=0, atol=2e-15 * count**4)


@pytest.mark.parametrize("count", COUNTS)
def test_nodes_are_where_cosines_are_extreme(count: int) -> None:
    nodes = chebyshev_nodes(count)
    if count > 1:
        assert torch.allclose(nodes, -torch.cos(torch.arange(count).double() * math.pi / (count - 1)), atol=1e-15)
    assert torch.equal(nodes, -nodes.flip(0))
    assert (
        torch.equal(nodes, chebyshev_nodes(2 * count - 1)[::2])
        or count == 1
        or torch.allclose(nodes, chebyshev_nodes(2 * count - 1)[::2], rtol=0, atol=2e-16)
    )


@pytest.mark.parametrize("count", COUNTS)
def test_interpolation_returns_the_coefficients_of_a_polynomial(count: int) -> None:
    coefficients = torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(count))
    samples = chebyshev_values(chebyshev_nodes(count), count) @ coefficients
    np.testing.assert_allclose(coefficients_from_values(count) @ samples, coefficients, rtol=0, atol=1e-13)


def test_derivatives_to_any_order_at_the_ends_of_the_interval_too() -> None:
    x = torch.tensor([-1.0, -0.3, 0.0, 0.7, 1.0], dtype=torch.float64, requires_grad=True)
    first = torch.autograd.grad(chebyshev_values(x, 12).sum(), x, create_graph=True)[0]
    np.testing.assert_allclose(first.detach(), chebyshev_derivatives(x, 12).sum(1).detach(), rtol=1e-13, atol=1e-13)
    second = torch.autograd.grad(first.sum(), x)[0]
    expected = chebyshev.chebval(x.detach().numpy(), chebyshev.chebder(np.ones(12), 2))
    np.testing.assert_allclose(second, expected, rtol=1e-12, atol=1e-12)
    again = torch.autograd.grad(chebyshev_derivatives(x, 12).sum(), x)[0]
    np.testing.assert_allclose(again, expected, rtol=1e-12, atol=1e-12)


def test_values_follow_the_dtype_and_shape_of_the_points() -> None:
    x = torch.zeros(2, 3, dtype=torch.float32)
    assert chebyshev_values(x, 5).shape == (2, 3, 5)
    assert chebyshev_values(x, 5).dtype == chebyshev_derivatives(x, 5).dtype == torch.float32


def test_no_nodes_are_refused() -> None:
    with pytest.raises(ConfigError, match="no 0 Chebyshev nodes"):
        chebyshev_nodes(0)
