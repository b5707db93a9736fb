"""Activations and the perceptron against integrals and plain matrix products."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from mlip.nn import MLP
from mlip.nn.activation import activation_scale, normalised_activation

FUNCTIONS = {"silu": lambda x: x / (1.0 + math.exp(-x)), "tanh": math.tanh}


def scale_by_integration(name: str) -> float:
    def integrand(x: float) -> float:
        return FUNCTIONS[name](x) ** 2 * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    halves = [quad(integrand, *ends, epsabs=1e-15, epsrel=1e-13) for ends in ((-15, 0), (0, 15))]
    assert sum(error for _, error in halves) < 1e-12
    return 1.0 / math.sqrt(sum(moment for moment, _ in halves))


@pytest.mark.parametrize("name", ["silu", "tanh"])
def test_scale_is_the_integral_over_a_normal_distribution(name: str) -> None:
    assert activation_scale(name) == pytest.approx(scale_by_integration(name), rel=1e-12)


@pytest.mark.parametrize("name", ["silu", "tanh"])
def test_normalised_activation(name: str) -> None:
    x = np.linspace(-6, 6, 25)
    expected = [scale_by_integration(name) * FUNCTIONS[name](each) for each in x]
    np.testing.assert_allclose(normalised_activation(name, torch.tensor(x)), expected, rtol=1e-12)


@pytest.mark.parametrize("widths", [[8, 5], [3, 16, 4], [2, 6, 7, 1]], ids=str)
def test_perceptron_is_matrix_products_and_activations(widths: list[int]) -> None:
    perceptron = MLP(widths).double()
    values = np.random.default_rng(0).normal(size=(11, widths[0]))
    expected = values
    for number, weight in enumerate(perceptron.weights):
        assert weight.shape == (widths[number], widths[number + 1])
        expected = expected @ weight.detach().numpy() / math.sqrt(widths[number])
        if number + 2 < len(widths):
            expected = scale_by_integration("silu") * expected / (1.0 + np.exp(-expected))
    result = perceptron(torch.tensor(values)).detach()
    np.testing.assert_allclose(result, expected, rtol=1e-11, atol=1e-13)


def test_zero_maps_to_zero_and_no_rows_to_no_rows() -> None:
    perceptron = MLP([8, 64, 64, 5])
    assert not perceptron(torch.zeros(3, 8)).any()
    assert perceptron(torch.zeros(0, 8)).shape == (0, 5)


def test_second_moment_is_kept() -> None:
    """Normal inputs of unit variance give outputs of unit variance, whatever the depth."""
    torch.manual_seed(0)
    outputs = MLP([64, 256, 256, 256, 256])(torch.randn(500, 64))
    assert outputs.var().item() == pytest.approx(1.0, rel=0.15)
