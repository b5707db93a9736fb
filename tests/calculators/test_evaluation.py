"""Batched evaluation equals one call after the other; Hessians equal differences of forces."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from small_models import CONFIGS, MACE

from mlip import MLIPCalculator
from mlip.calculators.evaluation import evaluate_structures
from mlip.data.graphs import build_graph
from mlip.data.structures import Structure
from mlip.models import build_model


def mixture() -> list[Atoms]:
    """Molecules, an isolated atom, a slab and a crystal."""
    slab = Atoms("C4", positions=[[0, 0, 0], [1.4, 0, 0], [0, 1.4, 0.3], [1.4, 1.5, 0]], cell=[2.8, 2.9, 0])
    slab.pbc = [True, True, False]
    frames = [molecule("CH4"), Atoms("O"), slab, bulk("C", cubic=True), molecule("CH3CH2OH"), Atoms("H")]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.03, seed=seed)
    return frames


@pytest.mark.parametrize("architecture", ["mace", "nequip"])
@pytest.mark.parametrize("max_edges", [1, 150, 100_000])
def test_evaluate_equals_single_calls(architecture, max_edges, calculator_of):
    calculator = calculator_of(build_model(CONFIGS[architecture]), dtype="float64")
    for atoms, result in zip(mixture(), calculator.evaluate(mixture(), max_edges=max_edges), strict=True):
        atoms.calc = calculator
        assert result["energy"] == pytest.approx(atoms.get_potential_energy(), rel=1e-13)
        assert result["free_energy"] == result["energy"]
        np.testing.assert_allclose(result["energies"], atoms.get_potential_energies(), rtol=1e-12)
        np.testing.assert_allclose(result["forces"], atoms.get_forces(), atol=1e-12)
        assert ("stress" in result) == (atoms.cell.rank == 3)
        if "stress" in result:
            np.testing.assert_allclose(result["stress"], atoms.get_stress(), atol=1e-13)


def test_stress_can_be_left_out(potential):
    results = MLIPCalculator(potential, dtype="float64").evaluate([bulk("Ar", a=5.2)], stress=False)
    assert "stress" not in results[0]


@pytest.mark.parametrize("max_edges", [1, 7, 40, 1000])
def test_batches_keep_the_order_and_the_bound(potential, max_edges):
    rng = np.random.default_rng(7)
    frames = [
        Structure(np.full(n, 18), rng.uniform(size=(n, 3)) * 2 + 2 * np.arange(n)[:, None]) for n in (1, 4, 2, 6, 3)
    ]
    frames = [frames[i] for i in rng.integers(0, 5, 60)]
    sizes = [build_graph(frame, potential.cutoff).edge_index.shape[1] for frame in frames]
    results = list(evaluate_structures(potential, iter(frames), max_edges=max_edges))
    assert [result.structure for result in results] == frames
    assert potential.largest_batch <= max(max_edges, *sizes)
    assert potential.largest_batch > max_edges / 2 or max_edges == 1000


def test_structures_are_read_as_they_are_needed(potential):
    read = []

    def stream():
        for i in range(100):
            read.append(i)
            yield Structure(np.full(2, 18), np.array([[0.0, 0, 0], [2.3, 0, 0]]))

    results = evaluate_structures(potential, stream(), max_edges=10)
    next(results)
    assert len(read) == 6  # A batch of five, and the one that did not fit.


def test_hessian_is_the_derivative_of_the_forces():
    atoms = molecule("CH3OH")
    atoms.rattle(0.05, seed=1)
    # Exact derivatives are those of the model as it is, without tables.
    calculator = MLIPCalculator(build_model(MACE), dtype="float64", compile=False)
    assert_hessian(atoms, calculator, 2e-7)


def test_hessian_of_a_crystal_in_several_passes(potential, monkeypatch):
    monkeypatch.setattr("mlip.calculators.ase.DEFAULT_MAX_EDGES", 100)  # Two rows a pass
    atoms = Atoms(
        "Ar2", positions=[[0.1, 0, 0], [1.6, 1.7, 1.9]], cell=[[3.4, 0, 0], [0.5, 3.6, 0], [0, 0, 3.5]], pbc=True
    )
    calculator = MLIPCalculator(potential, dtype="float64")
    assert_hessian(atoms, calculator, 1e-5)
    assert 50 < calculator.model.largest_batch <= 100


def test_hessian_of_one_bond_is_that_of_the_formula(potential):
    r = 2.3  # below the onset: plain Lennard-Jones
    atoms = Atoms("Ar2", positions=[[0, 0, 0], [0, 0, r]])
    matrix = MLIPCalculator(potential, dtype="float64").hessian(atoms)
    epsilon, sigma = potential.epsilon.item(), potential.sigma
    first = 4 * epsilon * (-12 * sigma**12 / r**13 + 6 * sigma**6 / r**7)
    second = 4 * epsilon * (156 * sigma**12 / r**14 - 42 * sigma**6 / r**8)
    block = np.diag([first / r, first / r, second])
    np.testing.assert_allclose(matrix, np.block([[block, -block], [-block, block]]), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("atoms", [Atoms("O"), Atoms("HH", positions=[[0, 0, 0], [0, 0, 9]])])
def test_hessian_of_isolated_atoms_is_zero(atoms):
    calculator = MLIPCalculator(build_model(MACE), dtype="float64")
    np.testing.assert_array_equal(calculator.hessian(atoms), np.zeros((3 * len(atoms), 3 * len(atoms))))


def assert_hessian(atoms: Atoms, calculator: MLIPCalculator, tolerance: float) -> None:
    """Compare with central differences of the forces, the leading error cancelled by a second step width."""
    matrix = calculator.hessian(atoms)
    atoms = atoms.copy()
    atoms.calc = calculator

    def slope(i: int, step: float) -> np.ndarray:
        forces = []
        for sign in (1, -1):
            atoms.positions.flat[i] += sign * step
            forces.append(atoms.get_forces().ravel())
            atoms.positions.flat[i] -= sign * step
        return (forces[1] - forces[0]) / (2 * step)

    for i in range(3 * len(atoms)):
        expected = (4 * slope(i, 5e-4) - slope(i, 1e-3)) / 3
        np.testing.assert_allclose(matrix[:, i], expected, atol=tolerance)
