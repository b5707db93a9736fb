"""The coupling of products of spin matrices, against its definition and Wigner's 6j symbol."""

from math import sqrt

import numpy as np
import pytest
from sympy.physics.wigner import wigner_6j

from mlip.errors import ConfigError
from mlip.so3 import matrix_coupling, wigner_3j


def triples(l_max: int) -> list[tuple[int, int, int]]:
    degrees = range(l_max + 1)
    return [(a, b, c) for a in degrees for b in degrees for c in degrees if abs(a - b) <= c <= a + b]


def basis(degree: int, spin: int) -> np.ndarray:
    """Matrices of a degree, [2 degree + 1, 2 spin + 1, 2 spin + 1]."""
    return sqrt(2 * degree + 1) * wigner_3j(spin, spin, degree).transpose(2, 0, 1)


@pytest.mark.parametrize("spin", [0, 1, 2, 3, 4, 5])
def test_coefficients_are_6j_symbols(spin: int) -> None:
    # tr(B1 B2 B3) is √(Π(2l+1)) {l1 l2 l3; s s s} times the 3j tensor, and B3^T is (−1)^l3 B3.
    for l1, l2, l3 in triples(min(4, 2 * spin)):
        size = sqrt((2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1)) * float(wigner_6j(l1, l2, l3, spin, spin, spin))
        expected = (-1) ** l3 * size * wigner_3j(l1, l2, l3)
        found = matrix_coupling(l1, l2, l3, spin)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14, err_msg=f"{l1, l2, l3}")


@pytest.mark.parametrize("spin", [1, 2, 3])
def test_products_of_matrices_lie_along_the_3j_tensors(spin: int) -> None:
    for l1, l2, l3 in triples(2 * spin):
        block = np.einsum("iab,jbc,kac->ijk", basis(l1, spin), basis(l2, spin), basis(l3, spin), optimize=True)
        found = matrix_coupling(l1, l2, l3, spin)
        np.testing.assert_allclose(found, block, rtol=0, atol=1e-14, err_msg=f"{l1, l2, l3}")


@pytest.mark.parametrize("spin", [1, 2, 3])
def test_degrees_make_an_orthonormal_basis_of_all_matrices(spin: int) -> None:
    matrices = np.concatenate([basis(degree, spin) for degree in range(2 * spin + 1)]).reshape(-1, (2 * spin + 1) ** 2)
    np.testing.assert_allclose(matrices @ matrices.T, np.eye(len(matrices)), rtol=0, atol=1e-14)


def test_sums_of_degrees_tell_the_anticommutator_from_the_commutator() -> None:
    for l1, l2, l3 in triples(4):
        swapped = matrix_coupling(l2, l1, l3, 2).swapaxes(0, 1)
        np.testing.assert_allclose(swapped, (-1) ** (l1 + l2 + l3) * matrix_coupling(l1, l2, l3, 2), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("degrees", "spin"), [((3, 5, 5), 3), ((5, 3, 5), 3), ((5, 6, 7), 4), ((7, 5, 6), 4)])
def test_zeros_of_the_6j_symbol_are_zeros_of_the_coupling(degrees: tuple[int, int, int], spin: int) -> None:
    assert wigner_6j(*degrees, spin, spin, spin) == 0
    assert np.abs(matrix_coupling(*degrees, spin)).max() < 1e-14


def test_matrices_that_are_too_small_and_broken_triangles_are_refused() -> None:
    with pytest.raises(ConfigError, match="spin 1 hold degrees up to 2 and not 3: choose spin 2 or more"):
        matrix_coupling(2, 3, 1, 1)
    with pytest.raises(ConfigError, match="choose the third between 1 and 3"):
        matrix_coupling(1, 2, 4, 2)
