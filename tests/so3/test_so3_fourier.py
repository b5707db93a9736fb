"""Fourier series of harmonics on the torus, against harmonics of directions and integrals by quadrature."""

import numpy as np
import pytest
import torch

from mlip.errors import ConfigError
from mlip.so3 import fourier_coefficients, fourier_projection, spherical_harmonics


def harmonics(l_max: int, theta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Orthonormal harmonics at angles of any size, [..., (l_max + 1)²]."""
    directions = np.stack([np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)], -1)
    return spherical_harmonics(l_max, torch.tensor(directions), "orthonormal").numpy()


def waves(angles: np.ndarray, highest: int) -> np.ndarray:
    return np.exp(1j * np.outer(angles, np.arange(-highest, highest + 1)))


@pytest.mark.parametrize("l_max", [0, 1, 2, 3, 7, 12])
def test_series_are_the_harmonics_everywhere_on_the_torus(l_max: int) -> None:
    theta, phi = np.random.default_rng(0).uniform(-np.pi, 2 * np.pi, (2, 200))
    assert (theta < 0).any()
    assert (theta > np.pi).any()
    series = np.einsum(
        "nuv,pu,pv->pn", fourier_coefficients(l_max), waves(theta, l_max), waves(phi, l_max), optimize=True
    )
    np.testing.assert_allclose(series, harmonics(l_max, theta, phi), rtol=0, atol=2e-14)


def test_coefficients_are_sparse_and_symmetric() -> None:
    l_max = 5
    table = fourier_coefficients(l_max)
    np.testing.assert_array_equal(table[:, ::-1, ::-1], table.conj())
    orders = np.arange(-l_max, l_max + 1)
    np.testing.assert_array_equal(table[:, ::-1], (-1.0) ** orders * table)
    for degree in range(l_max + 1):
        for m in range(-degree, degree + 1):
            u, v = np.nonzero(table[degree**2 + degree + m])
            assert set(np.abs(orders[v])) == {abs(m)}
            assert not ((orders[u] + degree) % 2).any()


@pytest.mark.parametrize(("l_max", "degree"), [(0, 0), (0, 3), (1, 2), (4, 3), (4, 9), (7, 14)])
def test_projections_are_integrals_over_the_sphere(l_max: int, degree: int) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(40)
    theta, weights = np.pi / 2 * (nodes + 1), np.pi / 2 * weights
    # Frequencies up to 2 l_max are integrated exactly.
    phi = 2 * np.pi * np.arange(2 * l_max + 1) / (2 * l_max + 1)
    values = harmonics(l_max, *np.meshgrid(theta, phi, indexing="ij"))
    expected = np.einsum(
        "t,tu,pv,tpn->nuv",
        weights * np.sin(theta) * (2 * np.pi / len(phi)),
        waves(theta, degree),
        waves(phi, l_max),
        values,
        optimize=True,
    )
    np.testing.assert_allclose(fourier_projection(l_max, degree), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("l_max", [0, 3, 10])
def test_projections_of_harmonics_are_orthonormal(l_max: int) -> None:
    found = np.einsum("nuv,kuv->nk", fourier_coefficients(l_max), fourier_projection(l_max, l_max))
    np.testing.assert_allclose(found, np.eye((l_max + 1) ** 2), rtol=0, atol=1e-13)


def test_tables_are_made_once_and_cannot_be_changed() -> None:
    for table, again in (
        (fourier_coefficients(2), fourier_coefficients(2)),
        (fourier_projection(2, 3), fourier_projection(2, 3)),
    ):
        assert table is again
        assert table.dtype == np.complex128
        with pytest.raises(ValueError, match="read-only"):
            table[0, 0, 0] = 1.0


def test_negative_degrees_are_refused() -> None:
    with pytest.raises(ConfigError, match="is -1: choose 0 or more"):
        fourier_coefficients(-1)
    with pytest.raises(ConfigError, match="is -2: choose 0 or more"):
        fourier_projection(1, -2)
