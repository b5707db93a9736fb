"""Lists of near pairs against those of vesin."""

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from mlip_kernels.pair_list import FoundPairs, cpu, find_pairs, reference

SKEWED = np.array([[5.0, 0.0, 0.0], [2.5, 4.0, 0.0], [-1.5, 2.0, 4.5]])
OBLIQUE = np.array([[3.0, 0.2, -0.1], [2.9, 1.1, 0.3], [-2.0, 0.5, 2.0]])
PERIODICITIES = [np.array(pbc) for pbc in itertools.product([True, False], repeat=3)]


def rows(found: FoundPairs) -> set[tuple[int, ...]]:
    """Receiver, sender and shift of every pair."""
    receivers = np.repeat(np.arange(len(found.starts) - 1), np.diff(found.starts))
    table = np.column_stack([receivers, found.senders, found.shifts])
    kept = {tuple(row) for row in table.tolist()}
    assert len(kept) == len(table) == found.starts[-1]
    return kept


def compare(positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float) -> None:
    """Hold a list against vesin's, and against what it says of itself."""
    box = np.where(pbc[:, None], cell, 0.0)
    found, expected = cpu.find_pairs(positions, box, pbc, cutoff), reference.find_pairs(positions, box, pbc, cutoff)
    pairs = rows(found)
    assert pairs == rows(expected)
    assert pairs == {(j, i, -a, -b, -c) for i, j, a, b, c in pairs}
    assert (found.senders.dtype, found.starts.dtype, found.shifts.dtype) == (np.int64, np.int64, np.int32)
    np.testing.assert_allclose(
        found.offsets, found.shifts @ box, rtol=0, atol=1e-13 * (1 + np.abs(found.offsets).max(initial=0))
    )
    receivers = np.repeat(np.arange(len(positions)), np.diff(found.starts))
    vectors = positions[found.senders] + found.offsets - positions[receivers]
    distances = np.linalg.norm(vectors, axis=1)
    assert (distances < cutoff * (1 + 1e-12)).all()
    assert found.shortest == pytest.approx(distances.min(initial=math.inf), rel=1e-12)
    if len(distances):
        first, second = found.nearest
        of_pair = distances[found.starts[first] : found.starts[first + 1]][
            found.senders[found.starts[first] : found.starts[first + 1]] == second
        ]
        assert of_pair.min() == pytest.approx(found.shortest, rel=1e-9)


@pytest.mark.parametrize("pbc", PERIODICITIES)
@pytest.mark.parametrize("cell", [np.diag([4.0, 5.0, 6.0]), SKEWED, OBLIQUE], ids=["box", "skewed", "oblique"])
def test_random_points(pbc: NDArray[np.bool_], cell: NDArray[np.float64]) -> None:
    generator = np.random.default_rng(int(pbc @ [1, 2, 4]))
    for count, cutoff, spread in [(1, 9.0, 1.0), (2, 2.0, 1.0), (7, 12.3, 3.0), (40, 3.3, 8.0), (40, 0.7, 1.0)]:
        # Inside the cell and far out of it.
        positions = spread * (generator.random((count, 3)) - 0.3) @ cell
        compare(positions, cell, pbc, cutoff)


def test_many_points_in_a_large_box() -> None:
    generator = np.random.default_rng(0)
    positions = 20.0 * generator.random((900, 3))
    for pbc in (np.ones(3, dtype=bool), np.zeros(3, dtype=bool)):
        compare(positions, 20.0 * np.eye(3), pbc, 4.5)


def test_points_on_borders_and_planes() -> None:
    generator = np.random.default_rng(1)
    places = generator.integers(0, 3, size=(25, 3)) / 2.0
    # No two at one place, and distances away from the cutoff.
    positions = np.unique(places, axis=0) @ SKEWED
    compare(positions, SKEWED, np.array([True, True, False]), 4.07)
    compare(
        positions * [1.0, 1.0, 0.0] + np.arange(len(positions))[:, None] * [0.0, 0.01, 0.0],
        SKEWED,
        np.zeros(3, dtype=bool),
        2.03,
    )


@pytest.mark.parametrize("shell", [0.5, 1.0, 1.5, 2.0])
def test_lattices_whose_distances_are_the_cutoff(shell: float) -> None:
    lattice = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]) * 4.1
    cell, pbc, cutoff = 4.1 * np.eye(3), np.ones(3, dtype=bool), 4.1 * math.sqrt(shell)
    for moved in 12.0 * np.random.default_rng(5).random((10, 3)):
        pairs = rows(find_pairs(lattice + moved, cell, pbc, cutoff))
        # Some or none of those at the cutoff itself, but never one without its reverse.
        assert pairs == {(j, i, -a, -b, -c) for i, j, a, b, c in pairs}
        assert rows(find_pairs(lattice, cell, pbc, cutoff - 0.01)) <= pairs
        assert len(pairs) <= len(rows(find_pairs(lattice, cell, pbc, cutoff + 0.01)))


def test_crowds_and_voids() -> None:
    generator = np.random.default_rng(2)
    # Most pairs in one corner of a space of a thousand kilometres, which vesin's grid does not bear.
    positions = np.concatenate([generator.random((300, 3)), 1e16 * generator.random((20, 3))])
    differences = positions[:, None] - positions
    near = np.linalg.norm(differences, axis=2) < 0.8
    np.fill_diagonal(near, False)
    receivers, senders = np.nonzero(near)
    found = find_pairs(positions, np.zeros((3, 3)), np.zeros(3, dtype=bool), 0.8)
    assert rows(found) == {(i, j, 0, 0, 0) for i, j in zip(receivers.tolist(), senders.tolist(), strict=True)}
    assert found.shortest == pytest.approx(np.linalg.norm(differences[near], axis=1).min())


def test_none_and_coinciding_points() -> None:
    empty = find_pairs(np.zeros((0, 3)), np.eye(3), np.ones(3, dtype=bool), 1.0)
    assert empty.starts.tolist() == [0]
    assert empty.shortest == math.inf
    same = find_pairs(np.array([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]]), 2 * np.eye(3), np.ones(3, dtype=bool), 0.5)
    assert same.shortest == 0.0
    assert sorted(same.nearest) == [1, 2]


def test_the_list_is_the_same_again() -> None:
    positions = 9.0 * np.random.default_rng(3).random((100, 3))
    first, second = (find_pairs(positions, 9 * np.eye(3), np.ones(3, dtype=bool), 3.0) for _ in range(2))
    np.testing.assert_array_equal(first.senders, second.senders)
    np.testing.assert_array_equal(first.offsets, second.offsets)


def test_without_kernels_vesin_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    positions = 6.0 * np.random.default_rng(4).random((30, 3))
    given = positions, SKEWED, np.array([True, False, True]), 3.0
    expected = rows(find_pairs(*given))
    monkeypatch.setenv("MLIP_KERNELS", "reference")
    monkeypatch.setattr(cpu, "find_pairs", None)
    assert rows(find_pairs(*given)) == expected
