"""Compiled potentials with charges against the modules that they are compiled from."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from model_cases import batch, potential, random_structure

from mlip.calculators import MLIPCalculator
from mlip.data.graphs import build_graph
from mlip.data.structures import Structure
from mlip.errors import DataError, StructureError
from mlip.models import Potential
from mlip.models.compiled import CompiledPotential

KINDS: dict[str, dict[str, Any]] = {
    "predicted": {"charges": "predicted"},
    "equilibrated": {"charges": "equilibrated"},
    "fixed": {"charges": "fixed", "element_charges": {"H": 0.3, "C": -0.1, "O": -0.6, "Si": 0.5}},
    "given": {"charges": "fixed"},
}
# Both architectures; readouts of one layer and of all.
CASES = [("mace", "predicted"), ("nequip", "equilibrated"), ("nequip", "fixed"), ("mace", "given")]
TOLERANCE = 1e-7  # Of forces by the radial tables, eV/Å.


@cache
def compiled(architecture: str, kind: str) -> tuple[Potential, CompiledPotential]:
    model = potential(architecture, long_range={**KINDS[kind], "tolerance": 1e-10})
    return model, model.compile_for_inference(TOLERANCE)


def structure_of(seed: int, atoms: int, pbc: Any = False, total: float = 0.0) -> Structure:
    """A structure with room for its atoms, of elements whose fixed charges cancel, that brings charges."""
    structure = random_structure(seed, atoms, pbc)
    charges = np.random.default_rng(seed).normal(size=atoms)
    return replace(
        structure,
        numbers=np.resize([8, 1, 1], atoms),
        positions=1.5 * structure.positions,
        cell=1.5 * structure.cell,
        total_charge=total,
        charges=charges - charges.mean(),
    )


@pytest.mark.parametrize(("architecture", "kind"), CASES)
def test_all_results_of_a_batch(architecture: str, kind: str) -> None:
    model, program = compiled(architecture, kind)
    structures = [
        structure_of(0, 21, total=1.0),
        structure_of(1, 9, pbc=True),
        structure_of(2, 1),
        structure_of(3, 9, pbc=(True, False, True)),
    ]
    graph = batch(*structures[: 2 if kind == "given" else 4], cutoff=model.cutoff)
    expected, found = model(graph, stress=True), program(graph, stress=True)
    largest = float(expected.forces.abs().max())
    for name in ("energy", "energies", "forces", "stress", "charges", "dipole"):
        exact, value = getattr(expected, name).detach().numpy(), getattr(found, name).numpy()
        np.testing.assert_allclose(value, exact, rtol=1e-12, atol=20 * TOLERANCE * max(1.0, largest), err_msg=name)
    # What charges do is seen in all of them.
    without = potential(architecture)(graph, stress=True)
    assert float((expected.forces - without.forces).abs().max()) > 1e-2
    assert float((expected.stress - without.stress).abs().max()) > 1e-4
    assert float(expected.charges.abs().max()) > 1e-2


@pytest.mark.parametrize(("architecture", "kind"), CASES[:2])
def test_forces_are_derivatives_of_the_energy(architecture: str, kind: str) -> None:
    model, program = compiled(architecture, kind)
    structure = structure_of(4, 9, pbc=True)
    graph = build_graph(structure, model.cutoff + 0.2)
    direction = np.random.default_rng(5).normal(size=structure.positions.shape)

    def energy(step: float) -> float:
        # The same pairs for all steps, which carry none across the cutoff.
        moved = graph.clone()
        moved.positions = moved.positions + step * moved.positions.new_tensor(direction)
        return float(program(moved).energy)

    step = 3e-4
    slope = (8 * (energy(step) - energy(-step)) - energy(2 * step) + energy(-2 * step)) / (12 * step)
    forces = program(graph).forces
    assert forces is not None
    assert slope == pytest.approx(-float((forces.numpy() * direction).sum()), abs=1e-7)


@pytest.mark.parametrize(("architecture", "kind"), CASES)
def test_calculator_follows_moving_atoms(architecture: str, kind: str) -> None:
    model, _ = compiled(architecture, kind)
    fast, plain = (MLIPCalculator(model, dtype="float64", skin=0.4, compile=compile) for compile in (True, False))
    assert fast.compiled is not None
    atoms = molecule("CH3CH2OH")
    atoms.positions *= 1.3
    atoms.arrays["charges"] = np.linspace(-0.4, 0.4, len(atoms))
    for step in range(3):
        atoms.info["charge"] = step - 1.0
        atoms.positions += 0.1 * np.random.default_rng(step).normal(size=atoms.positions.shape)
        results = []
        for calculator in (fast, plain):
            calculator.calculate(atoms)
            results.append(calculator.results)
        assert results[0].keys() == results[1].keys() >= {"charges", "dipole", "forces", "energy"}
        for name, exact in results[1].items():
            np.testing.assert_allclose(results[0][name], exact, atol=2e-4, err_msg=name)


def test_periodic_structures_have_stress_and_no_dipole() -> None:
    model, _ = compiled("mace", "predicted")
    atoms = Atoms("OH2", [[0.0, 0.0, 0.0], [1.1, 0.0, 0.0], [0.0, 1.2, 0.2]], cell=[5, 5, 6], pbc=True)
    results = [
        MLIPCalculator(model, dtype="float64", compile=compile).evaluate([atoms])[0] for compile in (True, False)
    ]
    assert "dipole" not in results[0]
    np.testing.assert_allclose(results[0]["stress"], results[1]["stress"], atol=1e-5)


def test_mistakes_name_atoms_by_their_own_numbers() -> None:
    model, _ = compiled("mace", "predicted")
    calculator = MLIPCalculator(model, dtype="float64")
    # The program takes atoms in another order.
    atoms = Atoms("OHOH", [[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [3.0, 0.0, 0.0]])
    with pytest.raises(StructureError, match="atoms 1 and 3"):
        calculator.get_forces(atoms)
    slab = Atoms("OH", [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], cell=[5, 5, 0], pbc=[True, True, False])
    slab.info["charge"] = 1.0
    with pytest.raises(StructureError, match="total charge of 1 e"):
        calculator.get_forces(slab)
    given = MLIPCalculator(compiled("mace", "given")[0], dtype="float64")
    with pytest.raises(DataError, match="takes the charges of atoms from the structure, which has none"):
        given.get_forces(Atoms("OH", [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
