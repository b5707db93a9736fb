"""Neighbour lists against ASE's, which is an independent implementation."""

import ase.io
import numpy as np
import pytest
from ase.neighborlist import primitive_neighbor_list

from mlip.data.neighbours import NeighbourList, neighbour_list
from mlip.errors import StructureError

CELL_KINDS = ("cubic", "orthorhombic", "skewed", "small", "left-handed")


def rows(receivers, senders, shifts) -> set[tuple[int, ...]]:
    table = np.column_stack([receivers, senders, shifts]).astype(int)
    return set(map(tuple, table.tolist()))


def assert_same_as_ase(positions, cell, pbc, cutoff) -> NeighbourList:
    pairs = neighbour_list(positions, cell, pbc, cutoff)
    expected = primitive_neighbor_list("ijS", pbc, cell, positions, cutoff)
    found = rows(pairs.receivers, pairs.senders, pairs.shifts)
    assert len(found) == len(pairs.receivers), "a pair is listed twice"
    assert found == rows(*expected)
    return pairs


def random_cell(kind: str, rng: np.random.Generator) -> np.ndarray:
    if kind == "cubic":
        return np.eye(3) * rng.uniform(2, 9)
    if kind == "orthorhombic":
        return np.diag(rng.uniform(2, 12, 3))
    while True:
        cell = rng.normal(size=(3, 3)) * (rng.uniform(0.8, 1.6) if kind == "small" else rng.uniform(3, 8))
        volume = np.linalg.det(cell)
        if kind == "left-handed" and volume > 0:
            cell[0] *= -1
        if abs(volume) / np.prod(np.linalg.norm(cell, axis=1)) > 0.1:
            return cell


@pytest.mark.parametrize("kind", CELL_KINDS)
@pytest.mark.parametrize("pbc", list(np.ndindex(2, 2, 2)), ids=lambda pbc: "".join("FT"[axis] for axis in pbc))
def test_random_systems_equal_ase(kind, pbc):
    """5 kinds of cell × 8 periodicities × 6 = 240 systems; most atoms are outside the cell."""
    rng = np.random.default_rng([CELL_KINDS.index(kind), *pbc])
    edges = 0
    for count in (1, 2, 3, 5, 9, 14):
        cell = random_cell(kind, rng)
        cutoff = rng.uniform(1.5, 3.5) if kind == "small" else rng.uniform(2, 6)
        positions = rng.normal(size=(count, 3)) * rng.choice([1.0, 4.0, 15.0])
        edges += len(assert_same_as_ase(positions, cell, np.array(pbc, dtype=bool), cutoff).senders)
    assert edges > 0


def test_every_periodic_reference_structure_equals_ase(shared_data):
    frames = ase.io.read(shared_data / "pbc_structures.xyz", ":")
    assert len(frames) == 92
    for atoms in frames:
        assert_same_as_ase(atoms.positions, atoms.cell.array, atoms.pbc, 4.0)


OPEN_DIRECTIONS = {
    "no cell": (np.zeros((3, 3)), (False, False, False)),
    "slab without a third vector": (np.diag([3.0, 4.0, 0.0]), (True, True, False)),
    "skewed slab without a third vector": (np.array([[3.0, 1, 2], [0, 4, 1], [0, 0, 0]]), (True, True, False)),
    "wire": (np.array([[0.0, 0, 0], [1, 2, 3], [0, 0, 0]]), (False, True, False)),
    "gap in the middle": (np.array([[3.0, 1, 0], [0, 0, 0], [1, 3, 2]]), (True, False, True)),
}


@pytest.mark.parametrize("name", OPEN_DIRECTIONS)
@pytest.mark.parametrize("arrangement", ["cloud", "line", "plane", "single"])
def test_open_directions_and_degenerate_arrangements_equal_ase(name, arrangement):
    cell, pbc = OPEN_DIRECTIONS[name]
    positions = np.random.default_rng(3).normal(size=(8, 3)) * 4
    if arrangement == "line":
        positions[:, 1:] = 0
    elif arrangement == "plane":
        positions[:, 2] = 7.5
    elif arrangement == "single":
        positions = positions[:1]
    assert_same_as_ase(positions, cell, np.array(pbc), 5.0)


def test_open_direction_parallel_to_a_periodic_one_is_ignored():
    positions = np.random.default_rng(4).normal(size=(6, 3)) * 3
    pbc = np.array([True, True, False])
    flat = neighbour_list(positions, [[3.0, 0, 0], [0, 3, 0], [3, 3, 0]], pbc, 4.0)
    upright = assert_same_as_ase(positions, np.array([[3.0, 0, 0], [0, 3, 0], [0, 0, 50]]), pbc, 4.0)
    for one, other in zip(flat, upright, strict=True):
        np.testing.assert_array_equal(one, other)


def test_order_is_by_receiver_sender_and_shift():
    rng = np.random.default_rng(5)
    pairs = neighbour_list(rng.normal(size=(7, 3)) * 5, np.eye(3) * 2.5, [True, True, True], 5.0)
    table = np.column_stack([pairs.receivers, pairs.senders, pairs.shifts]).tolist()
    assert table == sorted(table)
    assert all(array.dtype == np.int64 for array in pairs)


def test_distances_are_below_the_cutoff_and_every_pair_has_its_reverse():
    rng = np.random.default_rng(6)
    cell = random_cell("skewed", rng)
    positions = rng.normal(size=(10, 3)) * 10
    pairs = neighbour_list(positions, cell, [True, True, True], 4.5)
    vectors = positions[pairs.senders] + pairs.shifts @ cell - positions[pairs.receivers]
    assert np.linalg.norm(vectors, axis=1).max() < 4.5
    assert rows(pairs.senders, pairs.receivers, -pairs.shifts) == rows(pairs.receivers, pairs.senders, pairs.shifts)


def test_translation_and_moving_an_atom_by_a_lattice_vector():
    rng = np.random.default_rng(7)
    cell = random_cell("skewed", rng)
    positions = rng.uniform(size=(5, 3)) @ cell
    before = neighbour_list(positions, cell, [True, True, True], 4.0)
    moved = positions + 100.0
    moved[2] += [3, -2, 5] @ cell
    after = neighbour_list(moved, cell, [True, True, True], 4.0)
    expected = before.shifts.copy()
    expected[before.senders == 2] -= [3, -2, 5]
    expected[before.receivers == 2] += [3, -2, 5]
    assert rows(after.receivers, after.senders, after.shifts) == rows(before.receivers, before.senders, expected)


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        (np.zeros((3, 3)), (True, True, True)),
        (np.diag([3.0, 3.0, 0.0]), (True, True, True)),
        (np.array([[3.0, 0, 0], [0, 3, 0], [3, 3, 0]]), (True, True, True)),
        (np.array([[3.0, 0, 0], [6, 0, 1e-9], [0, 0, 5]]), (True, True, False)),
        (np.diag([3.0, 1e-8, 3.0]), (False, True, False)),
    ],
)
def test_periodic_cell_without_volume_is_refused(cell, pbc):
    with pytest.raises(StructureError, match="has no volume"):
        neighbour_list(np.zeros((1, 3)), cell, pbc, 3.0)


def test_positions_and_cell_that_are_not_finite_are_refused():
    positions = np.zeros((4, 3))
    positions[2, 1] = np.nan
    with pytest.raises(StructureError, match=r"atom 2 is at \(0, nan, 0\)"):
        neighbour_list(positions, np.zeros((3, 3)), [False] * 3, 3.0)
    with pytest.raises(StructureError, match="finite cell"):
        neighbour_list(np.zeros((1, 3)), np.full((3, 3), np.inf), [True] * 3, 3.0)
