"""The calculator on a compiled model against the model as it is, differences, and calculators made afresh."""

import pickle
from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from small_models import CONFIGS, MACE

from mlip import MLIPCalculator
from mlip.errors import ConfigError, StructureError, UnknownElementError
from mlip.models import Potential, build_model
from mlip.models.compiled import CompiledPotential


@pytest.fixture(scope="module")
def mace() -> Potential:
    return build_model(MACE, dtype="float64")


@pytest.fixture(scope="module")
def calculator(mace: Potential) -> MLIPCalculator:
    """Compiled, of the model in float64."""
    return MLIPCalculator(mace, dtype="float64")


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def disordered(atoms: Atoms, amplitude: float = 0.1, seed: int = 0) -> Atoms:
    atoms.positions += np.random.default_rng(seed).uniform(-amplitude, amplitude, atoms.positions.shape)
    return atoms


def crystal(copies: int = 1) -> Atoms:
    """Diamond with other elements in it, in a skewed cell."""
    atoms = bulk("C", cubic=True)
    atoms.numbers[:3] = [1, 8, 1]
    atoms.set_cell(atoms.cell.array + np.array([[0, 0.4, 0], [0, 0, -0.3], [0.2, 0, 0]]), scale_atoms=True)
    return disordered(atoms * (copies, copies, copies))


def structures() -> dict[str, Atoms]:
    slab = bulk("C", cubic=True) * (1, 1, 2)
    slab.pbc = [True, True, False]
    slab.cell[2] = 0.0
    return {
        "molecule": disordered(molecule("CH3CH2OH")),
        "box": crystal(2),
        "slab": disordered(slab),
        "tiny": disordered(Atoms("CO", positions=[[0, 0, 0], [1.1, 1.2, 1.3]], cell=[2.4, 2.3, 2.6], pbc=True)),
        "lone": Atoms("O"),
        "apart": Atoms("HC", positions=[[0, 0, 0], [0, 0, 9.0]], cell=[30, 30, 30], pbc=True),
    }


@pytest.mark.parametrize("architecture", ["mace", "nequip"])
def test_results_are_those_of_the_model_as_it_is(architecture: str) -> None:
    model = build_model(CONFIGS[architecture], dtype="float64")
    compiled, exact = (MLIPCalculator(model, dtype="float64", compile=each) for each in (True, False))
    for name, atoms in structures().items():
        ours, theirs = atoms.copy(), atoms.copy()
        ours.calc, theirs.calc = compiled, exact
        np.testing.assert_allclose(ours.get_potential_energies(), theirs.get_potential_energies(), atol=1e-6)
        np.testing.assert_allclose(ours.get_forces(), theirs.get_forces(), atol=1e-5, err_msg=name)
        assert np.abs(theirs.get_forces()).max() > 0.01 or len(atoms) == 1 or name == "apart"
        if atoms.cell.rank == 3:
            np.testing.assert_allclose(ours.get_stress(), theirs.get_stress(), atol=2e-6, err_msg=name)
    assert compiled.compiled is not None
    assert exact.compiled is None


def test_float32_is_close_to_float64(mace: Potential, calculator: MLIPCalculator) -> None:
    single = MLIPCalculator(mace)
    for atoms in structures().values():
        first, second = single.evaluate([atoms])[0], calculator.evaluate([atoms])[0]
        assert first["energy"] == pytest.approx(second["energy"], abs=1e-6 * len(atoms))
        np.testing.assert_allclose(first["forces"], second["forces"], atol=2e-5)


def test_stress_is_the_derivative_of_the_compiled_energy(calculator: MLIPCalculator) -> None:
    atoms = crystal()
    atoms.calc = calculator
    stress, volume = atoms.get_stress(voigt=False), atoms.get_volume()
    step = 1e-5
    for i, j in [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]:
        energies = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[i, j] += sign * step / 2
            strain[j, i] += sign * step / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            energies.append(calculator.evaluate([strained])[0]["energy"])
        # Energies of thousands of eV leave 1e-12 eV of rounding, over steps of 1e-5.
        assert stress[i, j] == pytest.approx((energies[0] - energies[1]) / (2 * step) / volume, abs=2e-8)


def test_order_of_atoms_does_not_matter(calculator: MLIPCalculator) -> None:
    atoms = crystal(2)
    order = np.random.default_rng(3).permutation(len(atoms))
    first, second = calculator.evaluate([atoms, atoms[order]])
    np.testing.assert_allclose(second["energies"], first["energies"][order], rtol=1e-13)
    np.testing.assert_allclose(second["forces"], first["forces"][order], atol=1e-11)
    np.testing.assert_allclose(second["stress"], first["stress"], atol=1e-12)


@pytest.mark.parametrize("number", [1, 2])
def test_repeats_are_the_same_bits(mace: Potential, threads: None, number: int) -> None:
    torch.set_num_threads(number)
    results = []
    for _ in range(3):
        atoms = crystal(2)
        atoms.calc = MLIPCalculator(mace, dtype="float64")
        atoms.get_potential_energy()
        atoms.positions += 0.01
        results.append((atoms.get_potential_energy(), atoms.get_forces().tobytes(), atoms.get_stress().tobytes()))
    assert results[0] == results[1] == results[2]


def test_threads_may_change_between_calls(calculator: MLIPCalculator, threads: None) -> None:
    atoms = crystal(2)
    atoms.calc = calculator
    expected = calculator.evaluate([atoms])[0]["forces"]
    for number in (2, 1, 2):
        torch.set_num_threads(number)
        atoms.positions += 0.01  # a shift of all atoms changes no force
        np.testing.assert_allclose(atoms.get_forces(), expected, atol=1e-11)


@pytest.mark.parametrize("name", ["molecule", "slab", "box"])
def test_moving_atoms_and_cells_are_those_of_fresh_lists(
    mace: Potential, calculator: MLIPCalculator, name: str
) -> None:
    atoms = structures()[name] if name != "box" else crystal()
    atoms.calc = MLIPCalculator(mace, dtype="float64")
    rng = np.random.default_rng(1)
    steps = 40
    for _ in range(steps):
        atoms.positions += rng.normal(size=atoms.positions.shape) * 0.02
        if atoms.pbc.any():
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(size=(3, 3)) * 0.001), scale_atoms=True)
        fresh = calculator.evaluate([atoms])[0]
        np.testing.assert_allclose(atoms.get_forces(), fresh["forces"], atol=1e-10)
        assert atoms.get_potential_energy() == pytest.approx(fresh["energy"], abs=1e-10)
        if "stress" in fresh:
            np.testing.assert_allclose(atoms.get_stress(), fresh["stress"], atol=1e-11)
    assert 1 < atoms.calc._evaluator.builds < steps / 2


@pytest.mark.parametrize("change", ["numbers", "pbc", "count", "wrap"])
def test_other_changes_are_noticed(mace: Potential, calculator: MLIPCalculator, change: str) -> None:
    atoms = crystal()
    atoms.positions += 5.0
    atoms.calc = MLIPCalculator(mace, dtype="float64")
    atoms.get_forces()
    match change:
        case "numbers":
            atoms.numbers[[0, 5]] = atoms.numbers[[5, 0]]
        case "pbc":
            atoms.pbc = [True, False, True]
        case "count":
            del atoms[3]
        case "wrap":
            atoms.wrap()
    fresh = calculator.evaluate([atoms])[0]
    np.testing.assert_allclose(atoms.get_forces(), fresh["forces"], atol=1e-10)
    assert atoms.get_potential_energy() == pytest.approx(fresh["energy"], abs=1e-10)


@pytest.mark.parametrize("distance", [0.0, 1e-3])
def test_mistakes_between_two_lists_are_named_and_leave_nothing_behind(
    mace: Potential, calculator: MLIPCalculator, distance: float
) -> None:
    # A narrow molecule, so that no atom moves farther than half the skin.
    atoms = Atoms("H2O", positions=[[0, 0, 0], [0.3, 0, 0], [0, 0.3, 0.3]])
    atoms.calc = MLIPCalculator(mace, dtype="float64", skin=2.0)
    before = atoms.get_forces()
    good = atoms.copy()
    for wrong, message in [(np.nan, "nan"), (np.inf, "inf")]:
        atoms.positions[1, 2] = wrong
        for _ in range(2):
            with pytest.raises(StructureError, match=message):
                atoms.get_forces()
        atoms.positions = good.positions
        np.testing.assert_allclose(atoms.get_forces(), before, atol=1e-12)
    builds = atoms.calc._evaluator.builds
    atoms.positions[1, 0] = distance
    with pytest.raises(StructureError, match="atoms 0 and 1 are"):
        atoms.get_forces()
    assert atoms.calc._evaluator.builds == builds  # It was the program that noticed.
    atoms.numbers[0] = 54
    atoms.positions = good.positions
    for _ in range(2):
        with pytest.raises(UnknownElementError, match=r"Xe.*H, C, O"):
            atoms.get_potential_energy()
    atoms.numbers[0] = 1
    np.testing.assert_allclose(atoms.get_forces(), before, atol=1e-12)


def test_batches_name_the_structure_with_an_unknown_element(calculator: MLIPCalculator) -> None:
    with pytest.raises(UnknownElementError, match=r"structure 1 .*Xe"):
        calculator.evaluate([molecule("H2O"), Atoms("Xe"), molecule("CO")])


def test_copies_are_calculators_of_their_own(mace: Potential) -> None:
    original = MLIPCalculator(mace, dtype="float64")
    atoms = disordered(molecule("CH3OH"))
    atoms.calc = original
    expected = atoms.get_forces()
    for twin in (deepcopy(original), pickle.loads(pickle.dumps(original))):
        other = disordered(molecule("CH3OH"), seed=1)
        other.calc = twin
        changed = other.get_forces()
        assert np.abs(changed - expected).max() > 0.01
        np.testing.assert_array_equal(original.evaluate([other])[0]["forces"], changed)
    np.testing.assert_array_equal(atoms.get_forces(), expected)


def test_what_is_kept_of_the_atoms_is_a_copy(calculator: MLIPCalculator) -> None:
    atoms = disordered(molecule("H2O"))
    atoms.calc = calculator
    forces = atoms.get_forces()
    assert calculator.get_property("energy") == atoms.get_potential_energy()
    forces += 1.0
    np.testing.assert_array_equal(calculator.atoms.positions, atoms.positions)
    calculator.atoms.positions += 1.0
    assert not calculator.calculation_required(atoms, ["forces"])
    assert np.abs(atoms.get_forces() - forces).max() == pytest.approx(1.0)


def test_models_that_are_not_compiled_run_as_they_are(monkeypatch: pytest.MonkeyPatch, mace: Potential) -> None:
    atoms = molecule("H2O")
    gaunt = build_model({**MACE, "tensor_product": {"backend": "spherical_grid"}})
    assert MLIPCalculator(gaunt).compiled is None
    exact = MLIPCalculator(mace, compile=False).evaluate([atoms])[0]["energy"]

    def refuse(self: Potential) -> CompiledPotential:
        raise ConfigError("no table is fine enough.")

    monkeypatch.setattr(Potential, "compile_for_inference", refuse)
    calculator = MLIPCalculator(mace)
    with pytest.warns(UserWarning, match="slower than if it were compiled: no table is fine enough"):
        assert calculator.evaluate([atoms])[0]["energy"] == exact
