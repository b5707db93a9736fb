"""Sphere grids: exact where they promise to be, badly wrong with one node fewer, and refused there."""

import numpy as np
import pytest
import torch
from e3nn import o3

from mlip.errors import ConfigError
from mlip.so3 import SphereGrid, bracket, gaunt, sphere_grid, spherical_harmonics, spherical_harmonics_with_gradients


def product_grid(theta_count: int, phi_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of any counts, aliasing or not: degree 0 asks for nothing."""
    grid = SphereGrid(0, theta_count, phi_count)
    return grid.nodes, grid.weights


def gaunt_error(l_max: int, theta_count: int, phi_count: int) -> float:
    """Largest error of ∫ Y1 Y2 Y3 on a grid, over all degrees up to l_max."""
    nodes, weights = product_grid(theta_count, phi_count)
    values = spherical_harmonics(l_max, torch.tensor(nodes), "orthonormal").numpy()
    integrals = np.einsum("n,ni,nj,nk->ijk", weights, values, values, values, optimize=True)
    exact = np.zeros_like(integrals)
    for l1, l2, l3 in allowed(l_max):
        exact[block(l1), block(l2), block(l3)] = gaunt(l1, l2, l3)
    return float(np.abs(integrals - exact).max())


def bracket_error(l_max: int, theta_count: int, phi_count: int) -> float:
    """Largest error of ∫ r̂·(∇Y1 × ∇Y2) Y3 on a grid, over all degrees up to l_max."""
    nodes, weights = product_grid(theta_count, phi_count)
    values, gradients = spherical_harmonics_with_gradients(l_max, torch.tensor(nodes), "orthonormal")
    turned = np.cross(nodes[:, None], gradients.numpy())
    # r̂·(a × b) = (r̂ × a)·b
    pairs = np.einsum("nix,njx->nij", turned, gradients.numpy())
    integrals = np.einsum("n,nij,nk->ijk", weights, pairs, values.numpy(), optimize=True)
    exact = np.zeros_like(integrals)
    for l1, l2, l3 in allowed(l_max):
        exact[block(l1), block(l2), block(l3)] = bracket(l1, l2, l3)
    return float(np.abs(integrals - exact).max())


def allowed(l_max: int) -> list[tuple[int, int, int]]:
    degrees = range(l_max + 1)
    return [(a, b, c) for a in degrees for b in degrees for c in degrees if abs(a - b) <= c <= a + b]


def block(degree: int) -> slice:
    return slice(degree**2, (degree + 1) ** 2)


@pytest.mark.parametrize("l_max", [1, 2, 3, 4])
def test_products_of_three_are_exact_and_one_node_fewer_is_not(l_max: int) -> None:
    grid = sphere_grid(3 * l_max)
    assert gaunt_error(l_max, grid.theta_count, grid.phi_count) < 1e-13
    assert gaunt_error(l_max, grid.theta_count - 1, grid.phi_count) > 0.1
    assert gaunt_error(l_max, grid.theta_count, grid.phi_count - 1) > 0.1


@pytest.mark.parametrize("l_max", [1, 2, 3, 4])
def test_the_bracket_needs_one_degree_less(l_max: int) -> None:
    total = 3 * l_max
    grid = sphere_grid(total - 1)
    assert (grid.theta_count, grid.phi_count) == ((total + 1) // 2, total)
    assert bracket_error(l_max, grid.theta_count, grid.phi_count) < 1e-12
    assert bracket_error(l_max, grid.theta_count - 1, grid.phi_count) > 0.1
    assert bracket_error(l_max, grid.theta_count, grid.phi_count - 1) > 0.1


@pytest.mark.parametrize("degree", [0, 1, 2, 5, 8, 20, 41])
def test_harmonics_up_to_the_degree_integrate_to_zero(degree: int) -> None:
    grid = sphere_grid(degree)
    assert grid.theta_count >= (degree + 1) / 2
    np.testing.assert_allclose(np.linalg.norm(grid.nodes, axis=1), 1, rtol=0, atol=1e-15)
    assert grid.weights.sum() == pytest.approx(4 * np.pi, rel=1e-14)
    values = spherical_harmonics(degree, torch.tensor(grid.nodes)).numpy()
    integrals = grid.weights @ values
    np.testing.assert_allclose(integrals[1:], 0, atol=1e-11)


def test_nodes_follow_the_axes_of_e3nn() -> None:
    grid = SphereGrid(3, 5, 7)
    for theta_index, phi_index in [(0, 0), (1, 3), (4, 6)]:
        alpha = torch.tensor(grid.phi[phi_index])
        beta = torch.tensor(np.arccos(grid.cos_theta[theta_index]))
        expected = o3.angles_to_xyz(alpha, beta).numpy()
        np.testing.assert_allclose(grid.nodes[theta_index * 7 + phi_index], expected, atol=1e-14)


@pytest.mark.parametrize(("theta_count", "phi_count"), [(4, 9), (5, 8), (0, 0)])
def test_a_grid_that_aliases_is_refused(theta_count: int, phi_count: int) -> None:
    with pytest.raises(ConfigError, match="at least 5 in θ and 9 in φ"):
        SphereGrid(8, theta_count, phi_count)


def test_a_negative_degree_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose 0 or more"):
        sphere_grid(-1)
