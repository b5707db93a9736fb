"""Spherical harmonics against e3nn, the addition theorem, rotations, autograd and finite differences."""

import math

import numpy as np
import pytest
import torch
from e3nn import o3
from hypothesis import given
from hypothesis import strategies as st

from mlip.errors import ConfigError
from mlip.so3 import solid_harmonics, spherical_harmonics, spherical_harmonics_with_gradients

E3NN_NAMES = {"component": "component", "orthonormal": "integral", "norm": "norm"}
vectors = st.tuples(*[st.floats(-10, 10).filter(lambda x: x == 0 or abs(x) > 1e-3)] * 3).filter(any)


def random_vectors(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("normalization", ["component", "orthonormal", "norm"])
@pytest.mark.parametrize("l_max", [0, 1, 2, 3, 4, 7, 10])
def test_values_equal_e3nn(l_max: int, normalization: str) -> None:
    points = random_vectors(5, 40)
    expected = o3.spherical_harmonics(list(range(l_max + 1)), points, True, E3NN_NAMES[normalization])
    torch.testing.assert_close(spherical_harmonics(l_max, points, normalization), expected, rtol=0, atol=3e-14)


@pytest.mark.parametrize("normalization", ["component", "orthonormal", "norm"])
@pytest.mark.parametrize("l_max", [0, 1, 3, 5])
def test_solid_harmonics_equal_those_of_e3nn_that_are_not_normalised(l_max: int, normalization: str) -> None:
    points = random_vectors(5, 40)
    expected = o3.spherical_harmonics(list(range(l_max + 1)), points, False, E3NN_NAMES[normalization])
    torch.testing.assert_close(solid_harmonics(l_max, points, normalization), expected, rtol=1e-12, atol=1e-12)


def test_derivatives_of_solid_harmonics_exist_at_the_origin_too() -> None:
    points = torch.cat([random_vectors(3), torch.zeros(1, 3, dtype=torch.float64)]).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: solid_harmonics(4, x), points)
    assert torch.autograd.gradgradcheck(lambda x: solid_harmonics(4, x), points)


def test_values_in_single_precision() -> None:
    points = random_vectors(100)
    single = spherical_harmonics(4, points.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), spherical_harmonics(4, points), rtol=0, atol=1e-5)


@given(a=vectors, b=vectors)
def test_addition_theorem(a: tuple[float, float, float], b: tuple[float, float, float]) -> None:
    pair = torch.tensor([a, b], dtype=torch.float64)
    values = spherical_harmonics(6, pair, "norm").numpy()
    cosine = float(pair[0] @ pair[1] / (pair[0].norm() * pair[1].norm()))
    for degree in range(7):
        block = values[:, degree**2 : (degree + 1) ** 2]
        legendre = np.polynomial.legendre.Legendre.basis(degree)(cosine)
        assert block[0] @ block[1] == pytest.approx(legendre, abs=1e-13)


@given(vector=vectors, scale=st.floats(1e-6, 1e6))
def test_only_the_direction_counts(vector: tuple[float, float, float], scale: float) -> None:
    point = torch.tensor(vector, dtype=torch.float64)
    torch.testing.assert_close(spherical_harmonics(4, scale * point), spherical_harmonics(4, point), rtol=0, atol=1e-13)


@pytest.mark.usefixtures("e3nn_in_double")
def test_rotation_and_inversion_act_by_wigner_matrices() -> None:
    points = random_vectors(20)
    rotation = o3.angles_to_matrix(*torch.tensor([0.3, 1.1, -2.0], dtype=torch.float64))
    irreps = o3.Irreps.spherical_harmonics(6)
    for matrix in (rotation, -rotation):
        expected = spherical_harmonics(6, points) @ irreps.D_from_matrix(matrix).T
        torch.testing.assert_close(spherical_harmonics(6, points @ matrix.T), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("l_max", [0, 1, 3, 5])
def test_derivatives_of_first_and_second_order(l_max: int) -> None:
    points = random_vectors(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: spherical_harmonics(l_max, x), points)
    assert torch.autograd.gradgradcheck(lambda x: spherical_harmonics(l_max, x), points)


def test_third_derivatives_obey_homogeneity() -> None:
    point = random_vectors(1).requires_grad_()
    probe = torch.linspace(-1, 1, 25, dtype=torch.float64)
    (first,) = torch.autograd.grad((spherical_harmonics(4, point) * probe).sum(), point, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), point, create_graph=True)
    # f depends on the direction only: |∇f|² is homogeneous of degree −2, the square of the gradient of that of −6.
    torch.testing.assert_close((second * point).sum(), -2 * first.square().sum(), rtol=1e-11, atol=0)
    (third,) = torch.autograd.grad(second.square().sum(), point)
    torch.testing.assert_close((third * point).sum(), -6 * second.square().sum(), rtol=1e-11, atol=0)


@pytest.mark.parametrize("normalization", ["component", "orthonormal", "norm"])
@pytest.mark.parametrize("l_max", [0, 2, 4, 10])
def test_analytic_gradients_equal_autograd_and_differences(l_max: int, normalization: str) -> None:
    points = random_vectors(4, 6).requires_grad_()
    values, gradients = spherical_harmonics_with_gradients(l_max, points, normalization)
    torch.testing.assert_close(values, spherical_harmonics(l_max, points, normalization), rtol=0, atol=0)
    for component in range((l_max + 1) ** 2):
        (expected,) = torch.autograd.grad(values[..., component].sum(), points, retain_graph=True)
        torch.testing.assert_close(gradients[..., component, :], expected, rtol=0, atol=1e-11)
    step = 1e-5
    for axis in range(3):
        shift = step * torch.eye(3, dtype=torch.float64)[axis]
        ahead = spherical_harmonics(l_max, points + shift, normalization)
        behind = spherical_harmonics(l_max, points - shift, normalization)
        torch.testing.assert_close(gradients[..., axis], (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_zero_vector_has_no_direction_and_no_derivative(dtype: torch.dtype) -> None:
    points = torch.zeros(1, 3, dtype=dtype, requires_grad=True)
    values, gradients = spherical_harmonics_with_gradients(3, points)
    assert values.tolist() == [[1.0] + 15 * [0.0]]
    assert not gradients.any()
    probe = torch.ones(1, 16, dtype=dtype, requires_grad=True)
    (first,) = torch.autograd.grad((spherical_harmonics(3, points) * probe).sum(), points, create_graph=True)
    for derivative in (first, *torch.autograd.grad((first + first.square()).sum(), (points, probe))):
        assert derivative.isfinite().all()
        assert not derivative.any()


def test_shapes_follow_the_vectors() -> None:
    assert spherical_harmonics(2, torch.zeros(3)).shape == (9,)
    assert spherical_harmonics(2, torch.zeros(0, 3)).shape == (0, 9)
    assert spherical_harmonics(0, torch.zeros(2, 4, 3)).shape == (2, 4, 1)
    assert spherical_harmonics_with_gradients(1, torch.zeros(0, 3))[1].shape == (0, 4, 3)


def test_a_first_call_in_inference_mode_does_not_spoil_later_training() -> None:
    # l_max = 9 in float32 occurs nowhere else, so that the cached constants are made here.
    with torch.inference_mode():
        spherical_harmonics(9, random_vectors(2, dtype=torch.float32))
    points = random_vectors(2, dtype=torch.float32).requires_grad_()
    spherical_harmonics(9, points)[:, 5].sum().backward()
    assert points.grad is not None


def test_orthonormal_constant() -> None:
    assert spherical_harmonics(0, torch.ones(3), "orthonormal").item() == pytest.approx(1 / math.sqrt(4 * math.pi))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="choose 0 or more"):
        spherical_harmonics(-1, torch.zeros(1, 3))
    with pytest.raises(ConfigError, match="component, orthonormal, norm"):
        spherical_harmonics(1, torch.zeros(1, 3), "integral")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"\[3, 2\]"):
        spherical_harmonics(1, torch.zeros(3, 2))
