"""Rotation matrices of every degree against the harmonics of rotated vectors and e3nn."""

import pytest
import torch
from e3nn import o3

from mlip.so3 import rotation_matrices, spherical_harmonics


def orthogonal(count: int, determinant: int, seed: int = 0) -> torch.Tensor:
    """Random orthogonal matrices [count, 3, 3] of a determinant."""
    normal = torch.randn(count, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    matrices, _ = torch.linalg.qr(normal)
    return matrices * (determinant * torch.linalg.det(matrices))[:, None, None].sign()


@pytest.mark.parametrize("determinant", [1, -1])
@pytest.mark.parametrize("l_max", [0, 1, 4, 10])
def test_they_turn_harmonics_as_the_vectors_are_turned(l_max: int, determinant: int) -> None:
    operations = orthogonal(5, determinant)
    vectors = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    harmonics = spherical_harmonics(l_max, vectors)
    turned = spherical_harmonics(l_max, vectors @ operations.mT)
    matrices = rotation_matrices(l_max, operations)
    assert [each.shape for each in matrices] == [(5, n, n) for n in range(1, 2 * l_max + 2, 2)]
    for degree, matrix in enumerate(matrices):
        columns = slice(degree**2, (degree + 1) ** 2)
        expected = harmonics[..., columns] @ matrix.mT
        torch.testing.assert_close(turned[..., columns], expected, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("e3nn_in_double")
def test_they_are_those_of_e3nn() -> None:
    angles = torch.tensor([0.3, 1.1, -2.0], dtype=torch.float64)
    matrices = rotation_matrices(10, o3.angles_to_matrix(*angles))
    for degree, matrix in enumerate(matrices):
        torch.testing.assert_close(matrix, o3.wigner_D(degree, *angles), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, -1), (-1, -1)])
def test_they_multiply_as_the_operations_do(first: int, second: int) -> None:
    a, b = orthogonal(3, first), orthogonal(3, second, seed=1)
    for of_a, of_b, of_ab in zip(*(rotation_matrices(8, each) for each in (a, b, a @ b)), strict=True):
        torch.testing.assert_close(of_a @ of_b, of_ab, rtol=0, atol=1e-12)


def test_identity_and_inversion() -> None:
    identity = torch.eye(3, dtype=torch.float64)
    for degree, (same, inverted) in enumerate(
        zip(rotation_matrices(6, identity), rotation_matrices(6, -identity), strict=True)
    ):
        expected = torch.eye(2 * degree + 1, dtype=torch.float64)
        torch.testing.assert_close(same, expected, rtol=0, atol=1e-14)
        torch.testing.assert_close(inverted, (-1) ** degree * expected, rtol=0, atol=1e-14)


def test_they_are_orthogonal_where_euler_angles_are_singular() -> None:
    # The polar axis turned upside down, and rotations about it.
    angle = torch.tensor(0.7, dtype=torch.float64)
    operations = torch.stack([o3.matrix_x(angle * 0), o3.matrix_y(angle), torch.diag(angle.new_tensor([1, -1, -1]))])
    operations.requires_grad_()
    matrices = rotation_matrices(5, operations)
    for matrix in matrices:
        unit = torch.eye(matrix.shape[-1], dtype=torch.float64).expand_as(matrix)
        torch.testing.assert_close(matrix @ matrix.mT, unit, rtol=0, atol=1e-13)
    (gradient,) = torch.autograd.grad(sum(matrix.square().sum() * matrix.sum() for matrix in matrices), operations)
    assert gradient.isfinite().all()


def test_derivatives_of_first_and_second_order() -> None:
    operations = orthogonal(2, 1).requires_grad_()

    def stacked(each: torch.Tensor) -> torch.Tensor:
        return torch.cat([matrix.flatten(1) for matrix in rotation_matrices(3, each)], 1)

    assert torch.autograd.gradcheck(stacked, operations, fast_mode=True)
    assert torch.autograd.gradgradcheck(stacked, operations, fast_mode=True)


def test_shapes_and_dtype_follow_the_operations() -> None:
    batch = orthogonal(6, 1).reshape(2, 3, 3, 3)
    for matrix, flat in zip(rotation_matrices(4, batch), rotation_matrices(4, batch.flatten(0, 1)), strict=True):
        torch.testing.assert_close(matrix.flatten(0, 1), flat, rtol=0, atol=1e-15)
    single = rotation_matrices(4, batch.float())
    for matrix, double in zip(single, rotation_matrices(4, batch), strict=True):
        assert matrix.dtype == torch.float32
        torch.testing.assert_close(matrix.double(), double, rtol=0, atol=2e-6)
    assert rotation_matrices(2, torch.zeros(0, 3, 3))[2].shape == (0, 5, 5)


def test_a_first_call_in_inference_mode_does_not_spoil_later_training() -> None:
    # Degree 11 in float32 occurs nowhere else, so that the cached constants are made here.
    operations = orthogonal(2, 1).float()
    with torch.inference_mode():
        rotation_matrices(11, operations)
    operations.requires_grad_()
    rotation_matrices(11, operations)[11].sum().backward()
    assert operations.grad is not None
