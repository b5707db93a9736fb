"""Charges, dipoles and Born charges of the calculator, against differences and against the model itself."""

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.geometry import find_mic

from mlip import MLIPCalculator
from mlip.errors import ConfigError, DataError, StructureError
from mlip.models import Potential, build_model

KINDS: dict[str, dict[str, Any]] = {
    "predicted": {"charges": "predicted"},
    "equilibrated": {"charges": "equilibrated"},
    "given": {"charges": "fixed"},
}


def model_of(kind: str, elements: tuple[str, ...] = ("H", "C", "O"), **changes: Any) -> Potential:
    config = {
        "architecture": "mace",
        "elements": list(elements),
        "hidden_irreps": "4x0e+4x1o",
        "l_max": 1,
        "correlation": 2,
        "layers": 1,
        "cutoff": 3.0,
        "radial_hidden": [8],
        "long_range": {**KINDS[kind], "tolerance": 1e-12},
    }
    return build_model(config | changes, "float64")


def ethanol(kind: str, compile: bool = True, **info: Any) -> Atoms:
    atoms = molecule("CH3CH2OH", info=info)
    if kind == "given":
        atoms.arrays["charges"] = np.linspace(-0.4, 0.4, len(atoms))
    atoms.calc = MLIPCalculator(model_of(kind), dtype="float64", compile=compile)
    return atoms


@pytest.mark.parametrize("kind", KINDS)
def test_charges_and_dipole_of_a_molecule(kind: str) -> None:
    atoms = ethanol(kind)
    charges = atoms.get_charges()
    assert charges.sum() == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(atoms.get_dipole_moment(), charges @ atoms.positions, rtol=0, atol=1e-12)
    (result,) = atoms.calc.evaluate([atoms])
    for name in ("charges", "dipole", "forces"):
        np.testing.assert_allclose(result[name], atoms.calc.results[name], rtol=0, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("kind", ["predicted", "equilibrated"])
def test_total_charge_is_that_of_the_atoms(kind: str) -> None:
    atoms = ethanol(kind, charge=1)
    energy = atoms.get_potential_energy()
    assert atoms.get_charges().sum() == pytest.approx(1.0, abs=1e-12)
    atoms.info["charge"] = -1
    assert atoms.calc.check_state(atoms) == ["initial_charges"]
    assert atoms.get_potential_energy() != energy
    assert atoms.get_charges().sum() == pytest.approx(-1.0, abs=1e-12)
    assert atoms.calc.atoms.info == {"charge": -1.0}


def test_given_charges_are_those_of_the_atoms_or_initial_ones() -> None:
    atoms = ethanol("given")
    energy = atoms.get_potential_energy()
    np.testing.assert_array_equal(atoms.get_charges(), atoms.arrays["charges"])
    again = atoms.calc.atoms
    again.calc = atoms.calc
    assert again.get_potential_energy() == energy
    atoms.arrays["charges"] = -2 * atoms.arrays["charges"]
    assert atoms.get_potential_energy() != energy
    initial = molecule("CH3CH2OH")
    initial.set_initial_charges(np.linspace(-0.4, 0.4, len(initial)))
    initial.calc = MLIPCalculator(model_of("given"), dtype="float64")
    assert initial.get_potential_energy() == pytest.approx(energy, rel=1e-14)
    initial.arrays.pop("initial_charges")
    with pytest.raises(DataError, match="give an array 'charges'"):
        initial.get_potential_energy()


def test_without_charges_there_are_none() -> None:
    model = model_of("predicted", long_range=None)
    atoms = molecule("CH3CH2OH", info={"charge": "no number"})
    atoms.calc = MLIPCalculator(model, compile=False)
    atoms.get_potential_energy()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_charges()
    with pytest.raises(ConfigError, match="no Born charges"):
        atoms.calc.born_charges(atoms)


def test_bad_total_charges_and_slabs_are_refused() -> None:
    with pytest.raises(DataError, match="the total charge 'charge' is 'positive'"):
        ethanol("predicted", charge="positive").get_potential_energy()
    atoms = ethanol("predicted", charge=1)
    atoms.set_cell([6, 6, 6])
    atoms.pbc = [True, True, False]
    with pytest.raises(StructureError, match="charge"):
        atoms.get_potential_energy()


def test_a_periodic_structure_has_no_dipole() -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.calc = MLIPCalculator(model_of("predicted", ("Na", "Cl")), dtype="float64")
    assert atoms.get_charges().sum() == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(PropertyNotImplementedError, match="ask for born_charges"):
        atoms.get_dipole_moment()


def differences(atoms: Atoms, moved: int, step: float = 1e-4) -> np.ndarray:
    """Born charges by moving the first atoms, the flow of charge taken along the shortest ways from each."""
    born = np.zeros((moved, 3, 3))
    evaluate = lambda shifted: atoms.calc.evaluate([shifted], stress=False)[0]["charges"]  # noqa: E731
    charges = evaluate(atoms)
    for i in range(moved):
        ways, _ = find_mic(atoms.positions - atoms.positions[i], atoms.cell, atoms.pbc)
        for b in range(3):
            flow = np.zeros(len(atoms))
            for sign in (1, -1):
                shifted = atoms.copy()
                shifted.positions[i, b] += sign * step
                flow += sign * evaluate(shifted) / (2 * step)
            born[i, :, b] = flow @ ways
        born[i] += charges[i] * np.eye(3)
    return born


@pytest.mark.parametrize("kind", KINDS)
def test_born_charges_of_a_molecule_are_derivatives_of_its_dipole(kind: str) -> None:
    atoms = ethanol(kind, compile=False, charge=0.0 if kind == "given" else 1.0)
    born = atoms.calc.born_charges(atoms)
    dipoles = []
    for sign in (1, -1):
        shifted = atoms.copy()
        shifted.positions[2, 1] += sign * 1e-4
        dipoles.append(atoms.calc.evaluate([shifted])[0]["dipole"])
    np.testing.assert_allclose(born[2, :, 1], (dipoles[0] - dipoles[1]) / 2e-4, rtol=0, atol=1e-7)
    total = atoms.info["charge"] * np.eye(3)
    np.testing.assert_allclose(born.sum(axis=0), total, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_born_charges_of_a_crystal(kind: str) -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.2, cubic=True) * ((1, 1, 1) if kind == "equilibrated" else (2, 1, 1))
    atoms.positions += np.random.default_rng(0).uniform(-0.2, 0.2, atoms.positions.shape)
    atoms.arrays["charges"] = np.where(atoms.numbers == 11, 0.9, -0.9)
    atoms.calc = MLIPCalculator(model_of(kind, ("Na", "Cl")), dtype="float64")
    born = atoms.calc.born_charges(atoms)
    np.testing.assert_allclose(born[:2], differences(atoms, 2), rtol=0, atol=1e-7)
    if kind == "given":
        np.testing.assert_allclose(born, atoms.arrays["charges"][:, None, None] * np.eye(3), rtol=0, atol=1e-14)
    if kind == "predicted":
        # Charges see 3 Å and cells are wider than twice that, but for the correction to the total charge.
        wrapped = atoms.copy()
        wrapped.positions += [0.7, 1.9, -3.1]
        wrapped.wrap()
        np.testing.assert_allclose(atoms.calc.born_charges(wrapped), born, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["predicted", "equilibrated"])
def test_hessian_is_the_derivative_of_forces(kind: str) -> None:
    atoms = ethanol(kind, compile=False, charge=1)
    hessian = atoms.calc.hessian(atoms)
    forces = []
    for sign in (1, -1):
        shifted = atoms.copy()
        shifted.positions[0, 2] += sign * 1e-4
        forces.append(atoms.calc.evaluate([shifted])[0]["forces"])
    np.testing.assert_allclose(hessian[2], -(forces[0] - forces[1]).ravel() / 2e-4, rtol=0, atol=2e-6)


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("kind", ["predicted", "given"])
def test_the_structure_that_is_refused_is_named(kind: str, compile: bool) -> None:
    atoms = ethanol(kind, compile=compile)
    frames = [atoms.copy() for _ in range(5)]
    if kind == "given":
        del frames[3].arrays["charges"]
    else:
        frames[3].info["charge"] = 1
        frames[3].set_cell([6, 6, 6])
        frames[3].pbc = [True, True, False]
    expected = DataError if kind == "given" else StructureError
    for max_edges in (1, 100_000):
        with pytest.raises(expected, match=r"^structure 3 \(counted from 0\): .*charge"):
            atoms.calc.evaluate(frames, max_edges=max_edges)
