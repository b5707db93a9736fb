"""Sums of Gaussians against erf(αr)/r at distances of their own, and against the number of nodes of the design."""

import math

import numpy as np
import pytest

from mlip.electrostatics.quadrature import gaussian_sum
from mlip.errors import ConfigError

# Nodes for α·radius = 5 and 80, from the design; one more or less is a matter of where the error is measured.
DESIGN = {1e-6: (9, 21), 1e-8: (11, 27), 1e-10: (13, 33)}


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-8, 1e-10, 1e-13])
@pytest.mark.parametrize("reach", [0.1, 1.0, 5.0, 20.0, 80.0, 300.0])
def test_the_sum_is_the_kernel_within_the_tolerance(reach: float, tolerance: float) -> None:
    radius = 40.0
    alpha = reach / radius
    exponents, weights = gaussian_sum(alpha, radius, tolerance)
    distances = np.random.default_rng(0).uniform(0, 1, 3000) ** 3 * radius
    exact = np.array([math.erf(alpha * r) / r for r in distances])
    approximation = np.exp(-np.square(distances[:, None] * exponents.numpy())) @ weights.numpy()
    # The error is measured at 600 distances; between them it may be a little larger.
    assert np.abs(approximation / exact - 1).max() <= 1.05 * tolerance
    assert (weights > 0).all()
    assert (exponents.diff() > 0).all()
    assert 0 < exponents[0] < exponents[-1] < alpha


@pytest.mark.parametrize("tolerance", DESIGN)
def test_as_few_nodes_as_designed(tolerance: float) -> None:
    few, many = (len(gaussian_sum(reach / 50, 50.0, tolerance)[0]) for reach in (5, 80))
    assert abs(few - DESIGN[tolerance][0]) <= 1
    assert abs(many - DESIGN[tolerance][1]) <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-0.5, 10.0, 1e-6), "positive alpha, not -0.5"),
        ((math.nan, 10.0, 1e-6), "positive alpha, not nan"),
        ((0.5, 0.0, 1e-6), "positive radius, not 0"),
        ((0.5, 10.0, 0.2), "0.2: take one between"),
        ((0.5, 10.0, 1e-14), "1e-14: take one between"),
        ((1e30, 10.0, 1e-12), "do not reach the tolerance"),
    ],
)
def test_bad_arguments_are_refused(arguments: tuple[float, float, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        gaussian_sum(*arguments)
