"""CP fits against planted decompositions, singular values and dense normal equations; the cache; the target."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from e3nn import o3
from safetensors.numpy import load_file, save_file

from mlip.tensor_products import cp_cache
from mlip.tensor_products.cp_cache import cached_fit
from mlip.tensor_products.cp_factors import factors_within
from mlip.tensor_products.cp_fit import CPFactors, balanced, fit
from mlip.tensor_products.cp_refine import LevenbergMarquardt
from mlip.tensor_products.cp_target import CPTarget, full_target


def assembled(factors: CPFactors) -> np.ndarray:
    return np.einsum("ir,jr,kr->ijk", factors.a, factors.b, factors.c)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_a_planted_decomposition_is_found_to_rounding() -> None:
    planted = np.einsum("ir,jr,kr->ijk", normal(5, 4), normal(6, 4, seed=1), normal(7, 4, seed=2))
    found = fit(planted, 4)
    assert found.error < 1e-12
    np.testing.assert_allclose(assembled(found), planted, rtol=0, atol=1e-12 * np.linalg.norm(planted))


def test_of_a_matrix_it_is_the_truncated_singular_value_decomposition() -> None:
    matrix = normal(6, 8)
    values = np.linalg.svd(matrix, compute_uv=False)
    for rank, tensor in ((1, matrix[None]), (3, matrix[:, None]), (5, matrix[:, :, None])):
        best = np.linalg.norm(values[rank:]) / np.linalg.norm(values)
        assert fit(tensor, rank, restarts=1).error == pytest.approx(best, rel=1e-3)


def test_the_stated_error_is_that_of_the_factors_and_falls_with_the_rank() -> None:
    tensor = full_target(1).tensor
    errors = []
    for rank in (2, 4, 6, 8):
        found = fit(tensor, rank, restarts=3)
        measured = np.linalg.norm(assembled(found) - tensor) / np.linalg.norm(tensor)
        assert found.error == pytest.approx(measured, rel=1e-9, abs=1e-15)
        assert (found.rank, found.seed) == (rank, 0)
        assert found.largest == max(np.abs(each).max() for each in (found.a, found.b, found.c))
        errors.append(found.error)
    assert sorted(errors, reverse=True) == errors
    assert errors[-1] < 1e-12


def test_columns_are_of_equal_norms() -> None:
    found = fit(full_target(1).tensor, 5, restarts=1)
    norms = [np.linalg.norm(factor, axis=0) for factor in found.factors]
    np.testing.assert_allclose(norms[0], norms[1], rtol=1e-12)
    np.testing.assert_allclose(norms[0], norms[2], rtol=1e-12)
    skewed = CPFactors(found.a * 10, found.b / 5, found.c / 2, found.error)
    assert balanced(full_target(1).tensor, skewed).largest == pytest.approx(found.largest)


def test_the_same_seed_gives_the_same_bits_and_leaves_global_generators_alone() -> None:
    tensor = full_target(1).tensor
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second, other = fit(tensor, 5, 3, 2), fit(tensor, 5, 3, 2), fit(tensor, 5, 4, 2)
    assert all(np.array_equal(one, two) for one, two in zip(first.factors, second.factors, strict=True))
    assert first.sweeps == second.sweeps > 0
    assert not np.array_equal(first.a, other.a)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])


def test_more_restarts_never_do_worse() -> None:
    tensor = full_target(1).tensor
    errors = [fit(tensor, 7, 0, restarts).error for restarts in (1, 2, 4)]
    assert sorted(errors, reverse=True) == errors
    assert errors[0] > errors[-1]


def test_slices_of_zeros_have_rows_of_zeros() -> None:
    tensor = np.zeros((5, 4, 4))
    tensor[1:, 1:, :3] = normal(4, 3, 3)
    found = fit(tensor, 3, restarts=1)
    assert not found.a[0].any()
    assert not found.b[0].any()
    assert not found.c[3].any()
    trimmed = fit(tensor[1:, 1:, :3], 3, restarts=1)
    assert found.error == pytest.approx(trimmed.error, rel=1e-12)
    np.testing.assert_allclose(found.a[1:], trimmed.a, rtol=1e-12)


def test_a_step_solves_the_damped_normal_equations_of_the_jacobian() -> None:
    tensor = torch.tensor(normal(3, 4, 5))
    sizes, rank = [3, 4, 5], 3
    factors = [torch.tensor(normal(size, rank, seed=size)) for size in sizes]
    refinement = LevenbergMarquardt(tensor, factors)
    start = torch.cat(factors)

    def residual(flat: torch.Tensor) -> torch.Tensor:
        first, second, third = flat.view(-1, rank).split(sizes)
        return (torch.einsum("ir,jr,kr->ijk", first, second, third) - tensor).flatten()

    jacobian = torch.autograd.functional.jacobian(residual, start.flatten())
    downhill = -jacobian.T @ residual(start.flatten())
    gradient = torch.cat(refinement._unpadded(refinement._gradient())).flatten()
    torch.testing.assert_close(gradient, downhill)
    damped = jacobian.T @ jacobian + refinement._damping * torch.eye(start.numel(), dtype=torch.float64)
    found = torch.cat(refinement._unpadded(refinement._solve(refinement._gradient()))).flatten()
    assert float((damped @ found - downhill).norm() / downhill.norm()) <= 1e-3


@pytest.mark.parametrize("even_only", [False, True])
def test_the_target_is_the_tensor_of_all_blocks(even_only: bool) -> None:
    target = CPTarget("clebsch_gordan", ((0, 2), (1, 2), (0, 1, 3)), 0, even_only)
    expected = np.zeros((9, 9, 16))
    for l1, l2, l3 in itertools.product(*target.degrees):
        if abs(l1 - l2) <= l3 <= l1 + l2 and not (even_only and (l1 + l2 + l3) % 2):
            block = o3.wigner_3j(l1, l2, l3, dtype=torch.float64).numpy()
            expected[l1**2 : (l1 + 1) ** 2, l2**2 : (l2 + 1) ** 2, l3**2 : (l3 + 1) ** 2] = block
    np.testing.assert_allclose(target.tensor, expected, rtol=0, atol=1e-7)
    assert target.always_enough == min(6 * 8, 6 * 11, 8 * 11)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("tolerance", [0.5, 0.1, 1e-9])
def test_a_tolerance_is_reached_with_the_lowest_rank_that_reaches_it(tolerance: float) -> None:
    target = full_target(1)
    found = factors_within(target, tolerance, 0, 3)
    assert found is not None
    assert found.error <= tolerance
    assert fit(target.tensor, found.rank - 1, 0, 3).error > tolerance


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mlip" / "cp"


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ranks of the fits that were made."""
    made = []

    def counted(tensor: np.ndarray, rank: int, seed: int, restarts: int) -> CPFactors:
        made.append(rank)
        return fit(tensor, rank, seed, restarts)

    monkeypatch.setattr(cp_cache, "fit", counted)
    return made


def test_a_fit_is_made_once(cache: Path, fits: list[int]) -> None:
    tensor = full_target(1).tensor
    first, second = cached_fit(tensor, 4, 0, 1), cached_fit(tensor, 4, 0, 1)
    assert fits == [4]
    assert len(list(cache.iterdir())) == 1
    assert all(np.array_equal(one, two) for one, two in zip(first.factors, second.factors, strict=True))
    assert (first.seed, first.sweeps) == (second.seed, second.sweeps)
    assert second.error == pytest.approx(first.error, rel=1e-9)


def test_other_arguments_are_other_fits(cache: Path, fits: list[int]) -> None:
    tensor, even = full_target(1).tensor, full_target(1, even_only=True).tensor
    for arguments in ((tensor, 4, 0, 1), (even, 4, 0, 1), (tensor, 3, 0, 1), (tensor, 4, 1, 1), (tensor, 4, 0, 2)):
        cached_fit(*arguments)
    assert len(fits) == 5 == len(list(cache.iterdir()))


@pytest.mark.parametrize("harm", ["cut", "garbage", "shape", "dtype", "values", "no_error", "missing", "nan"])
def test_a_file_that_is_damaged_or_foreign_is_made_anew(cache: Path, fits: list[int], harm: str) -> None:
    tensor = full_target(1).tensor
    expected = cached_fit(tensor, 4, 0, 1)
    (path,) = cache.iterdir()
    arrays = load_file(path)
    metadata = {"error": repr(expected.error), "seed": "0", "sweeps": "1"}
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif harm == "garbage":
        path.write_bytes(b"no tensors")
    elif harm == "no_error":
        save_file(arrays, path, {"seed": "0"})
    else:
        changed = {
            "shape": {"a": np.ones((3, 4))},
            "dtype": {"a": arrays["a"].astype(np.float32)},
            "values": {"a": arrays["a"] * (1 + 1e-9)},
            "nan": {"a": np.full_like(arrays["a"], np.nan)},
        }
        kept = {name: each for name, each in arrays.items() if (harm, name) != ("missing", "b")}
        save_file(kept | changed.get(harm, {}), path, metadata)
    found = cached_fit(tensor, 4, 0, 1)
    assert fits == [4, 4]
    assert np.array_equal(found.a, expected.a)
    # It has been mended.
    cached_fit(tensor, 4, 0, 1)
    assert fits == [4, 4]


def test_a_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: list[int]
) -> None:
    (tmp_path / "mlip").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tensor = full_target(1).tensor
    assert np.array_equal(cached_fit(tensor, 4, 0, 1).a, cached_fit(tensor, 4, 0, 1).a)
    monkeypatch.setattr(cp_cache, "cache_folder", lambda _: None)
    cached_fit(tensor, 4, 0, 1)
    assert fits == [4, 4, 4]
