"""Which coefficients a coupling gives a path, and which paths it has."""

import itertools

import numpy as np
import pytest
import torch
from sympy.physics.wigner import wigner_6j

from mlip.errors import ConfigError
from mlip.so3 import sphere_grid, spherical_harmonics_with_gradients, wigner_3j
from mlip.tensor_products.couplings import COUPLINGS, choose, couples, coupling_tensor

L_MAX = 3
TRIPLES = [
    (a, b, c)
    for a in range(L_MAX + 1)
    for b in range(L_MAX + 1)
    for c in range(2 * L_MAX + 1)
    if abs(a - b) <= c <= a + b
]


def block(degree: int) -> slice:
    return slice(degree**2, (degree + 1) ** 2)


@pytest.fixture(scope="module")
def integrals() -> tuple[np.ndarray, np.ndarray]:
    """∫ Y1 Y2 Y3 and ∫ r̂·(∇Y1 × ∇Y2) Y3 by quadrature."""
    grid = sphere_grid(4 * L_MAX)
    values, gradients = (
        each.numpy() for each in spherical_harmonics_with_gradients(2 * L_MAX, torch.tensor(grid.nodes), "orthonormal")
    )
    few = (L_MAX + 1) ** 2
    crossed = np.cross(gradients[:, :few, None], gradients[:, None, :few])
    brackets = np.einsum("gijx,gx->gij", crossed, grid.nodes)
    gaunts = np.einsum("gi,gj->gij", values[:, :few], values[:, :few])
    weighted = values * grid.weights[:, None]
    return np.einsum("gij,gk->ijk", gaunts, weighted), np.einsum("gij,gk->ijk", brackets, weighted)


@pytest.mark.parametrize("degrees", TRIPLES, ids=str)
def test_coefficients_are_the_integrals_of_the_documentation(
    integrals: tuple[np.ndarray, np.ndarray], degrees: tuple[int, int, int]
) -> None:
    place = tuple(block(degree) for degree in degrees)
    expected_gaunt, expected_bracket = (each[place] for each in integrals)
    for coupling, expected in (
        ("gaunt", expected_gaunt),
        ("bracket", expected_bracket),
        ("gaunt+bracket", expected_gaunt + expected_bracket),
        ("clebsch_gordan", wigner_3j(*degrees)),
    ):
        actual = coupling_tensor(coupling, *degrees, L_MAX)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)
        assert couples(coupling, *degrees, L_MAX) == (np.abs(expected).max() > 1e-6)


@pytest.mark.parametrize("spin", [1, 2, 3])
def test_matrix_coefficients_are_products_of_matrices(spin: int) -> None:
    basis = {
        degree: np.sqrt(2 * degree + 1) * np.moveaxis(wigner_3j(spin, spin, degree), 2, 0)
        for degree in range(2 * spin + 1)
    }
    for l1, l2, l3 in (each for each in TRIPLES if max(each) <= 2 * spin):
        # B1 B2 expanded in the orthonormal basis of degree l3.
        expected = np.einsum("iab,jbc,kac->ijk", basis[l1], basis[l2], basis[l3], optimize=True)
        np.testing.assert_allclose(coupling_tensor("matrix", l1, l2, l3, spin), expected, rtol=0, atol=1e-14)


def test_accidental_zeros_of_the_6j_symbol_are_no_paths() -> None:
    zeros = []
    for spin in (1, 2, 3):
        degrees = range(2 * spin + 1)
        for l1, l2, l3 in itertools.combinations_with_replacement(degrees, 3):
            zero = l3 <= l1 + l2 and wigner_6j(l1, l2, l3, spin, spin, spin) == 0
            assert couples("matrix", l1, l2, l3, spin) == (l3 <= l1 + l2 and not zero)
            zeros += [(l1, l2, l3, spin)] if zero else []
    assert zeros == [(3, 5, 5, 3)]


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("degrees", [(0, 1, 2), (1, 1, 3), (3, 1, 1)])
def test_broken_triangles_never_couple(coupling: str, degrees: tuple[int, int, int]) -> None:
    assert not couples(coupling, *degrees, 2)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_coefficients_cannot_be_overwritten(coupling: str) -> None:
    with pytest.raises(ValueError, match="read-only"):
        coupling_tensor(coupling, 1, 1, 1, 1)[:] = 0


def test_unknown_names_are_refused_with_the_nearest_known_one() -> None:
    choose("coupling", "gaunt", COUPLINGS)
    with pytest.raises(ConfigError, match="unknown coupling 'gauntt': did you mean 'gaunt'"):
        choose("coupling", "gauntt", COUPLINGS)
    with pytest.raises(ConfigError, match="unknown coupling 'x': choose one of clebsch_gordan, gaunt, bracket, "):
        choose("coupling", "x", iter(COUPLINGS))
