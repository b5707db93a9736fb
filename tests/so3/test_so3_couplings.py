"""Coupling tensors against e3nn, quadrature and the identities they must obey."""

import math

import numpy as np
import pytest
import torch
from e3nn import o3

from mlip.errors import ConfigError
from mlip.so3 import bracket, gaunt, sphere_grid, spherical_harmonics_with_gradients, wigner_3j


def triples(l_max: int) -> list[tuple[int, int, int]]:
    degrees = range(l_max + 1)
    return [(a, b, c) for a in degrees for b in degrees for c in degrees if abs(a - b) <= c <= a + b]


def harmonics_on_grid(l_max: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    grid = sphere_grid(3 * l_max)
    values, gradients = spherical_harmonics_with_gradients(l_max, torch.tensor(grid.nodes), "orthonormal")
    return grid.nodes, grid.weights, values.numpy(), gradients.numpy()


def block(degree: int) -> slice:
    return slice(degree**2, (degree + 1) ** 2)


@pytest.mark.parametrize("degrees", [*triples(5), (10, 10, 10), (10, 9, 4), (10, 3, 7), (8, 11, 9)], ids=str)
def test_wigner_3j_equals_e3nn(degrees: tuple[int, int, int]) -> None:
    expected = o3.wigner_3j(*degrees, dtype=torch.float64).numpy()
    np.testing.assert_allclose(wigner_3j(*degrees), expected, rtol=0, atol=2e-15)


@pytest.mark.parametrize(("l1", "l2"), [(0, 3), (2, 2), (3, 5), (7, 10), (10, 10)])
def test_wigner_3j_is_a_unitary_change_of_basis(l1: int, l2: int) -> None:
    blocks = [math.sqrt(2 * l3 + 1) * wigner_3j(l1, l2, l3) for l3 in range(abs(l1 - l2), l1 + l2 + 1)]
    matrix = np.concatenate(blocks, axis=2).reshape((2 * l1 + 1) * (2 * l2 + 1), -1)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), rtol=0, atol=1e-14)


@pytest.mark.usefixtures("e3nn_in_double")
@pytest.mark.parametrize("degrees", [(1, 1, 1), (2, 3, 4), (5, 4, 3), (10, 6, 9)], ids=str)
def test_wigner_3j_is_invariant_under_rotations(degrees: tuple[int, int, int]) -> None:
    angles = torch.tensor([0.3, 1.1, -2.0], dtype=torch.float64)
    rotations = [o3.wigner_D(degree, *angles).numpy() for degree in degrees]
    tensor = wigner_3j(*degrees)
    np.testing.assert_allclose(np.einsum("abc,ai,bj,ck->ijk", tensor, *rotations, optimize=True), tensor, atol=1e-12)


@pytest.mark.parametrize("degrees", triples(3), ids=str)
def test_wigner_3j_permutes_with_the_sign_of_its_degree_sum(degrees: tuple[int, int, int]) -> None:
    l1, l2, l3 = degrees
    sign = (-1) ** (l1 + l2 + l3)
    np.testing.assert_allclose(np.abs(wigner_3j(l2, l1, l3)), np.abs(wigner_3j(l1, l2, l3)).swapaxes(0, 1), atol=1e-15)
    if l1 == l2:
        np.testing.assert_allclose(wigner_3j(l1, l1, l3), sign * wigner_3j(l1, l1, l3).swapaxes(0, 1), atol=1e-15)


def test_gaunt_equals_the_integral_over_the_sphere() -> None:
    _, weights, values, _ = harmonics_on_grid(5)
    for l1, l2, l3 in triples(5):
        first, second, third = (values[:, block(degree)] for degree in (l1, l2, l3))
        expected = np.einsum("n,ni,nj,nk->ijk", weights, first, second, third)
        np.testing.assert_allclose(gaunt(l1, l2, l3), expected, rtol=0, atol=1e-13, err_msg=f"{l1, l2, l3}")


def test_bracket_equals_the_integral_over_the_sphere() -> None:
    nodes, weights, values, gradients = harmonics_on_grid(5)
    for l1, l2, l3 in triples(5):
        cross = np.cross(gradients[:, block(l1), None], gradients[:, None, block(l2)])
        brackets = np.einsum("nx,nijx->nij", nodes, cross)
        expected = np.einsum("n,nij,nk->ijk", weights, brackets, values[:, block(l3)])
        np.testing.assert_allclose(bracket(l1, l2, l3), expected, rtol=0, atol=1e-11, err_msg=f"{l1, l2, l3}")


def test_bracket_of_vectors_is_the_cross_product() -> None:
    # Y_1 = √(3/4π) r̂, so that r̂·(∇(a·r̂) × ∇(b·r̂)) = r̂·(a × b), and ∫ r̂_i r̂_j = 4π/3 δ_ij.
    levi_civita = np.cross(np.eye(3)[:, None], np.eye(3)[None])
    np.testing.assert_allclose(bracket(1, 1, 1), math.sqrt(3 / (4 * math.pi)) * levi_civita, atol=1e-15)


@pytest.mark.parametrize("coupling", [wigner_3j, gaunt, bracket])
@pytest.mark.parametrize("degrees", [(-1, 1, 1), (1, -1, 0), (1, 1, 3), (4, 1, 2)], ids=str)
def test_impossible_degrees_are_refused(coupling, degrees: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="cannot be coupled"):
        coupling(*degrees)


@pytest.mark.parametrize("coupling", [wigner_3j, gaunt, bracket])
def test_cached_tensors_cannot_be_changed(coupling) -> None:
    tensor = coupling(2, 1, 1)
    assert tensor.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        tensor[0, 0, 0] = 1.0
