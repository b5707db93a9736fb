"""The skin changes nothing but the number of neighbour lists built."""

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet

from mlip import MLIPCalculator
from mlip.calculators.skin import SkinGraph
from mlip.data.neighbours import neighbour_list
from mlip.data.structures import Structure

CUTOFF = 5.0


def edges_of(atoms: Atoms, graph: SkinGraph) -> tuple[np.ndarray, np.ndarray]:
    """Edges and offsets that the skin graph gives."""
    result = graph.update(Structure.from_atoms(atoms))
    return result.edge_index.numpy(), result.edge_offsets.numpy()


def assert_fresh(atoms: Atoms, graph: SkinGraph) -> None:
    """The edges are those of a list built for this very structure, in its order."""
    index, offsets = edges_of(atoms, graph)
    fresh = neighbour_list(atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF)
    np.testing.assert_array_equal(index, np.stack((fresh.senders, fresh.receivers)))
    np.testing.assert_allclose(offsets, fresh.shifts @ atoms.cell.array, atol=1e-12)


def skin_graph(skin: float = 1.0) -> SkinGraph:
    return SkinGraph(CUTOFF, skin, torch.device("cpu"))


def test_edges_of_a_random_walk_are_those_of_fresh_lists(system):
    graph, rng = skin_graph(), np.random.default_rng(0)
    for _ in range(60):
        assert_fresh(system, graph)
        system.positions += rng.normal(size=system.positions.shape) * 0.04
    assert 1 < graph.builds < 30


def test_edges_under_changing_cells_are_those_of_fresh_lists(system):
    graph, rng = skin_graph(), np.random.default_rng(1)
    for _ in range(60):
        assert_fresh(system, graph)
        strain = np.eye(3) + rng.normal(size=(3, 3)) * 0.004
        system.set_cell(system.cell.array @ strain, scale_atoms=True)
        system.positions += rng.normal(size=system.positions.shape) * 0.02
    assert graph.builds < 30


def test_strong_compression_is_noticed():
    atoms = bulk("Ar", cubic=True, a=5.3) * (2, 2, 2)
    graph = skin_graph(skin=0.5)
    for factor in (1.0, 0.98, 0.95, 0.9, 0.8, 1.3):
        scaled = atoms.copy()
        scaled.set_cell(atoms.cell.array * factor, scale_atoms=True)
        assert_fresh(scaled, graph)


def test_half_the_skin_is_the_limit():
    atoms = Atoms("Ar4", positions=[[0, 0, 0], [4, 0, 0], [0, 4, 0], [0, 0, 4]])
    graph = skin_graph(skin=1.0)
    edges_of(atoms, graph)
    # Against the mean of all four, the moving atom covers three quarters of its way.
    atoms.positions[1, 0] += 0.66
    edges_of(atoms, graph)
    assert graph.builds == 1
    atoms.positions[1, 0] += 0.02
    edges_of(atoms, graph)
    assert graph.builds == 2


def test_drift_and_small_strain_cost_no_rebuild():
    atoms = bulk("Ar", cubic=True, a=5.3)
    graph = skin_graph()
    for _ in range(20):
        assert_fresh(atoms, graph)
        atoms.positions += 1.7
        atoms.set_cell(atoms.cell.array * 1.001, scale_atoms=True)
    assert graph.builds == 1


@pytest.mark.parametrize("change", ["numbers", "pbc", "count", "wrap"])
def test_other_changes_are_noticed(change):
    atoms = bulk("Ar", cubic=True, a=5.3)
    atoms.positions += 5.0
    graph = skin_graph()
    assert_fresh(atoms, graph)
    match change:
        case "numbers":
            atoms.numbers[1] = 10
        case "pbc":
            atoms.pbc = [True, False, True]
        case "count":
            atoms += Atoms("Ar", positions=[[1.0, 1.2, 2.2]])
        case "wrap":
            atoms.wrap()
    assert_fresh(atoms, graph)
    result = graph.update(Structure.from_atoms(atoms))
    np.testing.assert_array_equal(result.atomic_numbers.numpy(), atoms.numbers)
    np.testing.assert_array_equal(result.pbc.numpy()[0], atoms.pbc)
    assert graph.builds == 2


@pytest.mark.parametrize("skin", [0.0, 0.3, 2.0])
def test_trajectory_does_not_depend_on_the_skin(potential, skin):
    paths = []
    for chosen in (skin, 0.7):
        atoms = bulk("Ar", cubic=True, a=3.4) * (2, 2, 2)
        atoms.rattle(0.2, seed=3)
        atoms.calc = MLIPCalculator(potential, dtype="float64", skin=chosen)
        VelocityVerlet(atoms, 2 * units.fs).run(60)
        paths.append(atoms.positions.copy())
    np.testing.assert_array_equal(paths[0], paths[1])
