"""Tucker tensors against full tensors: truncation error, least squares, sums, reduced decomposition."""

import numpy as np
import pytest
import torch

from mlip.electrostatics.format.canonical import interpolate_columns, reduced_hosvd, sum_of_products
from mlip.electrostatics.format.tucker import (
    Tucker,
    add,
    alternating_least_squares,
    compress,
    left_singular,
    transform,
)


def random_tucker(sizes: tuple[int, int, int], ranks: tuple[int, int, int], seed: int, decay: float = 1.0) -> Tucker:
    """Random factors, and a random core whose elements fall like decayⁱ⁺ʲ⁺ᵏ."""
    generator = torch.Generator().manual_seed(seed)
    x, y, z = (
        torch.linalg.qr(torch.randn(size, rank, dtype=torch.float64, generator=generator)).Q
        for size, rank in zip(sizes, ranks, strict=True)
    )
    falls = [decay ** torch.arange(rank, dtype=torch.float64) for rank in ranks]
    core = torch.randn(ranks, dtype=torch.float64, generator=generator)
    return Tucker(core * falls[0][:, None, None] * falls[1][:, None] * falls[2], (x, y, z))


def assert_orthonormal(tensor: Tucker) -> None:
    for factor in tensor.factors:
        np.testing.assert_allclose(factor.mT @ factor, np.eye(factor.shape[1]), rtol=0, atol=1e-13)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-6, 1e-9, 1e-12])
def test_compression_is_within_the_tolerance_and_knows_its_error(tolerance: float) -> None:
    tensor = random_tucker((18, 15, 21), (14, 15, 13), 0, decay=0.12)
    small, error = compress(tensor, tolerance)
    true = float((small.full() - tensor.full()).norm())
    assert true <= tolerance * tensor.norm
    assert true == pytest.approx(error, rel=1e-3, abs=1e-14 * tensor.norm)
    assert_orthonormal(small)
    # No axis can do with fewer: its own truncation alone would miss more than what is allowed.
    if tolerance > 1e-12:
        assert max(small.core.shape) < 15


def test_compression_finds_the_ranks_of_an_exact_tensor() -> None:
    tensor = random_tucker((12, 30, 9), (3, 5, 2), 1)
    large = Tucker(tensor.full(), tuple(torch.eye(size, dtype=torch.float64) for size in (12, 30, 9)))  # type: ignore[arg-type]
    small, error = compress(large, 1e-12)
    assert tuple(small.core.shape) == (3, 5, 2)
    assert error < 1e-13 * tensor.norm
    np.testing.assert_allclose(small.full(), tensor.full(), rtol=0, atol=1e-13)


def test_the_block_kept_takes_least_memory() -> None:
    """Against a search over all blocks of the ordered core."""
    tensor = random_tucker((9, 9, 9), (9, 9, 9), 2, decay=0.3)
    core = tensor.core
    for axis in range(3):
        vectors, _ = left_singular(core.movedim(axis, 0).flatten(1))
        core = torch.tensordot(vectors, core, dims=([0], [axis])).movedim(0, axis)
    allowed = 1e-2 * tensor.norm
    costs = []
    for a, b, c in np.ndindex(9, 9, 9):
        missed = core.clone()
        missed[: a + 1, : b + 1, : c + 1] = 0
        if missed.norm() <= allowed:
            costs.append((a + 1) * (b + 1) * (c + 1) + 9 * (a + b + c + 3))
    kept = compress(tensor, 1e-2)[0].core.shape
    assert np.prod(kept) + 9 * sum(kept) == min(costs)


def test_least_squares_lower_the_error_of_truncation() -> None:
    tensor = torch.randn(10, 11, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for axis in range(3):  # the higher-order decomposition, from which the sweeps start
        vectors, _ = left_singular(tensor.movedim(axis, 0).flatten(1))
        tensor = torch.tensordot(vectors, tensor, dims=([0], [axis])).movedim(0, axis)
    truncated = tensor.clone()
    truncated[:4, :4, :4] = 0
    core, factors, error = alternating_least_squares(tensor, (4, 4, 4))
    assert error < 0.99 * float(truncated.norm())
    assert error == pytest.approx(float((tensor - transform(core, factors)).norm()), rel=1e-12)
    # The best core of these subspaces leaves a rest orthogonal to them.
    rest = transform(tensor - transform(core, factors), [factor.mT for factor in factors])
    np.testing.assert_allclose(rest, np.zeros((4, 4, 4)), rtol=0, atol=1e-13)


def test_sums_are_exact_and_ranks_of_equal_terms_do_not_grow() -> None:
    first, second = random_tucker((8, 9, 7), (3, 2, 4), 4), random_tucker((11, 6, 7), (2, 3, 5), 5)
    total = add([first, second])
    assert tuple(total.core.shape) == (5, 5, 7)  # at most as many as there are coefficients
    assert_orthonormal(total)
    expected = torch.zeros(11, 9, 7, dtype=torch.float64)
    expected[:8, :9] += first.full()
    expected[:, :6] += second.full()
    np.testing.assert_allclose(total.full(), expected, rtol=0, atol=1e-13)
    assert tuple(add([first, first]).core.shape) == (3, 2, 4)


def test_reduced_decomposition_of_a_canonical_tensor() -> None:
    generator = torch.Generator().manual_seed(6)
    base = [torch.randn(20, 6, dtype=torch.float64, generator=generator) for _ in range(3)]
    columns = [rows @ torch.randn(6, 400, dtype=torch.float64, generator=generator) for rows in base]
    weights = torch.randn(400, dtype=torch.float64, generator=generator) ** 5
    full = torch.einsum("k,ak,bk,ck->abc", weights, *columns)
    tensor = reduced_hosvd(weights, columns, 1e-8)
    assert tuple(tensor.core.shape) == (6, 6, 6)
    assert_orthonormal(tensor)
    assert float((tensor.full() - full).norm()) < 1e-13 * float(full.norm())


@pytest.mark.parametrize("left", [1e-4, 1e-7])
def test_terms_that_cancel_leave_an_accurate_rest(left: float) -> None:
    """Each term appears with both signs, so that only a small rest, of quite other vectors, is the tensor."""
    generator = torch.Generator().manual_seed(7)
    decay = 0.3 ** torch.arange(30, dtype=torch.float64)[:, None]
    large = [decay * torch.randn(30, 50, dtype=torch.float64, generator=generator) for _ in range(3)]
    small = [decay.flip(0) * torch.randn(30, 50, dtype=torch.float64, generator=generator) for _ in range(3)]
    columns = [torch.cat([a, a, b], dim=1) for a, b in zip(large, small, strict=True)]
    weights = torch.cat([torch.ones(50), -torch.ones(50), left * torch.ones(50)]).double()
    full = left * torch.einsum("ak,bk,ck->abc", *small)
    tensor = reduced_hosvd(weights, columns, 1e-6)
    assert float((tensor.full() - full).norm()) < 1e-6 * float(full.norm())


def test_sum_of_products_in_chunks() -> None:
    generator = torch.Generator().manual_seed(8)
    rows = [torch.randn(5000, rank, dtype=torch.float64, generator=generator) for rank in (40, 35, 3)]
    weights = torch.randn(5000, dtype=torch.float64, generator=generator)
    direct = torch.einsum("kab,kc->abc", weights[:, None, None] * rows[0][:, :, None] * rows[1][:, None], rows[2])
    np.testing.assert_allclose(sum_of_products(weights, rows), direct, rtol=0, atol=1e-10)


def test_splines_are_exact_for_cubics() -> None:
    grid = torch.tensor([0.0, 0.3, 1.0, 1.5, 2.2, 3.0], dtype=torch.float64)
    points = torch.linspace(0, 3, 40, dtype=torch.float64)

    def cubic(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x**3 - 2 * x, 4 - x**2], dim=1)

    np.testing.assert_allclose(interpolate_columns(grid, cubic(grid), points), cubic(points), rtol=0, atol=1e-13)
