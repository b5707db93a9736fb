"""Powers on a grid against nested Gaunt products that are never truncated."""

import numpy as np
import pytest
from e3nn.o3 import Irrep

from mlip.errors import ConfigError
from mlip.so3 import gaunt
from mlip.tensor_products.powers import power_grid


def irreps(text: str) -> tuple[Irrep, ...]:
    return tuple(map(Irrep, text.split("+")))


def block(degree: int) -> slice:
    return slice(degree**2, (degree + 1) ** 2)


def nested_power(coefficients: np.ndarray, order: int) -> np.ndarray:
    """Coefficients [(order · l_max + 1)²] of f · f · … · f by Gaunt products of one factor after another."""
    factor_degrees = int(np.sqrt(len(coefficients)))
    power = coefficients
    for _ in range(order - 1):
        degrees = int(np.sqrt(len(power)))
        product = np.zeros((degrees + factor_degrees - 1) ** 2)
        for l1 in range(degrees):
            for l2 in range(factor_degrees):
                for l3 in range(abs(l1 - l2), l1 + l2 + 1):
                    product[block(l3)] += np.einsum(
                        "ijk,i,j->k", gaunt(l1, l2, l3), power[block(l1)], coefficients[block(l2)]
                    )
        power = product
    return power


@pytest.mark.parametrize(
    ("l_max", "order", "outputs"),
    [
        (0, 3, "0e"),
        (2, 1, "2e+0e"),
        (3, 2, "0e+1o+2e+3o+4e+5o+6e"),
        (3, 3, "0e+1o"),
        (3, 3, "1o+0e+9o+1o"),
        (2, 4, "3o+0e+8e"),
    ],
)
def test_powers_are_nested_gaunt_products(l_max: int, order: int, outputs: str) -> None:
    coefficients = np.random.default_rng(0).standard_normal((l_max + 1) ** 2)
    power = nested_power(coefficients, order)
    expected = np.concatenate([power[block(irrep.l)] for irrep in irreps(outputs)])
    _, to_grid, from_grid = power_grid(l_max, order, irreps(outputs))
    found = from_grid @ (to_grid @ coefficients) ** order
    assert np.linalg.norm(found - expected) <= 1e-12 * np.linalg.norm(expected)


def test_the_grid_integrates_the_total_degree_and_no_more() -> None:
    grid, to_grid, from_grid = power_grid(3, 3, irreps("0e+1o"))
    assert (grid.degree, grid.theta_count, grid.phi_count) == (10, 6, 11)
    assert (to_grid.shape, from_grid.shape) == ((66, 16), (4, 66))
    assert to_grid.dtype == from_grid.dtype == np.float64


@pytest.mark.parametrize("text", ["0o", "0e+1e", "2o"])
def test_parities_that_a_power_cannot_have_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="choose outputs among 0e, 1o, 2e"):
        power_grid(3, 3, irreps(text))


def test_what_makes_no_power_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no part '3o': choose degrees up to 2"):
        power_grid(1, 2, irreps("0e+3o"))
    with pytest.raises(ConfigError, match="order of a power is 0"):
        power_grid(1, 0, irreps("0e"))
    with pytest.raises(ConfigError, match="no irreps_out"):
        power_grid(1, 2, ())
