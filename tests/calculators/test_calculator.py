"""The calculator against ASE's own Lennard-Jones, supercells and finite differences."""

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, make_supercell, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.io import read, write
from small_models import CONFIGS

from mlip import MLIPCalculator, save
from mlip.errors import ConfigError, FileMissingError, ModelFileError, StructureError, UnknownElementError
from mlip.models import Potential, build_model


@pytest.fixture(scope="module", params=["mace", "nequip"])
def model(request: pytest.FixtureRequest) -> Potential:
    """A small random model, reference energies included."""
    return build_model(CONFIGS[request.param], dtype="float64")


def reference(potential) -> AseLennardJones:
    """ASE's implementation of the potential of the test."""
    return AseLennardJones(
        sigma=potential.sigma,
        epsilon=potential.epsilon.item(),
        rc=potential.cutoff,
        ro=potential.onset,
        smooth=True,
    )


def test_agrees_with_ase_in_every_kind_of_cell(potential, system):
    ours, theirs = system.copy(), system.copy()
    ours.calc, theirs.calc = MLIPCalculator(potential, dtype="float64"), reference(potential)
    np.testing.assert_allclose(ours.get_potential_energy(), theirs.get_potential_energy(), rtol=1e-12)
    np.testing.assert_allclose(ours.get_potential_energies(), theirs.get_potential_energies(), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(ours.get_forces(), theirs.get_forces(), rtol=1e-10, atol=1e-12)
    if system.cell.rank == 3:
        np.testing.assert_allclose(ours.get_stress(), theirs.get_stress(), rtol=1e-10, atol=1e-14)


def test_slab_with_a_third_vector_has_the_stress_of_its_cell(potential):
    ours = Atoms("Ar3", positions=[[0, 0, 0], [1.2, 1.5, 2.0], [-0.8, 1.0, 4.1]], pbc=[True, True, False])
    ours.cell = [[3.1, 0, 0], [0.7, 2.9, 0], [0.3, -0.2, 25.0]]
    theirs = ours.copy()
    ours.calc, theirs.calc = MLIPCalculator(potential, dtype="float64"), reference(potential)
    np.testing.assert_allclose(ours.get_stress(), theirs.get_stress(), rtol=1e-10, atol=1e-14)


def test_cell_smaller_than_the_cutoff_equals_its_supercell(model, calculator_of):
    calculator = calculator_of(model, dtype="float64")
    cell = [[2.4, 0, 0], [0.6, 2.3, 0], [-0.4, 0.5, 2.6]]
    small = Atoms("CO", positions=[[0, 0, 0], [1.1, 1.2, 1.3]], cell=cell, pbc=True)
    large = make_supercell(small, [[3, 0, 0], [1, 3, 0], [0, -1, 4]])
    copies = len(large) // 2
    small.calc = large.calc = calculator
    energies, forces, stress = small.get_potential_energies(), small.get_forces(), small.get_stress()
    is_carbon = large.numbers == 6
    np.testing.assert_allclose(large.get_potential_energies()[is_carbon], energies[0], rtol=1e-12)
    np.testing.assert_allclose(large.get_potential_energies()[~is_carbon], energies[1], rtol=1e-12)
    np.testing.assert_allclose(large.get_forces()[is_carbon], np.tile(forces[0], (copies, 1)), atol=1e-10)
    np.testing.assert_allclose(large.get_stress(), stress, atol=1e-12)


def test_per_atom_energies_and_free_energy_add_up(model, calculator_of):
    atoms = molecule("CH3CH2OH")
    atoms.calc = calculator_of(model, dtype="float64")
    energy = atoms.get_potential_energy()
    assert energy == pytest.approx(atoms.get_potential_energies().sum(), rel=1e-14)
    assert atoms.get_potential_energy(force_consistent=True) == energy


def test_forces_are_the_gradient(model, calculator_of):
    atoms = molecule("CH3OH")
    atoms.rattle(0.05, seed=2)
    atoms.calc = calculator_of(model, dtype="float64")
    forces = atoms.get_forces().copy()
    step = 1e-4
    for atom, axis in [(0, 0), (1, 1), (4, 2)]:
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.positions[atom, axis] += sign * step
            energies.append(moved.get_potential_energy())
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=1e-6)


def strained_energy(atoms: Atoms, strain: np.ndarray) -> float:
    """Energy under a small symmetric strain."""
    deformed = atoms.copy()
    deformed.calc = atoms.calc
    deformed.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return deformed.get_potential_energy()


def test_stress_is_the_strain_derivative_in_a_skewed_cell(model, calculator_of):
    cell = [[4.5, 0, 0], [1.9, 4.2, 0], [-1.1, 1.4, 4.6]]
    atoms = Atoms("H2COC", scaled_positions=np.random.default_rng(4).uniform(size=(5, 3)), cell=cell, pbc=True)
    atoms.calc = calculator_of(model, dtype="float64")
    stress = atoms.get_stress(voigt=False).copy()
    step = 1e-3
    for i, j in [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]:
        strain = np.zeros((3, 3))
        strain[i, j] = strain[j, i] = step / 2 if i != j else step
        # Central difference with the leading error cancelled by a second step width.
        narrow, wide = ((strained_energy(atoms, w * strain) - strained_energy(atoms, -w * strain)) / w for w in (1, 2))
        slope = (4 * narrow - wide) / 3 / (2 * step)
        assert stress[i, j] == pytest.approx(slope / atoms.get_volume(), abs=1e-8)


def test_stress_of_a_molecule_is_refused_and_the_energy_kept(potential):
    atoms = Atoms("Ar2", positions=[[0, 0, 0], [2.4, 0, 0]])
    atoms.calc = MLIPCalculator(potential)
    energy = atoms.get_potential_energy()
    with pytest.raises(PropertyNotImplementedError, match="periodic cell with a volume"):
        atoms.get_stress()
    assert atoms.get_potential_energy() == energy


def test_isolated_atoms_have_their_reference_energies(model, calculator_of):
    energies = model.config.reference_energies
    for atoms in (Atoms("O"), Atoms("HC", positions=[[0, 0, 0], [0, 0, 9.0]])):
        atoms.calc = calculator_of(model, dtype="float64")
        alone = sum(energies[symbol] for symbol in atoms.symbols)
        shift = calculator_of(model, dtype="float64").evaluate([Atoms(s) for s in atoms.symbols])
        assert atoms.get_potential_energy() == pytest.approx(sum(result["energy"] for result in shift), rel=1e-14)
        assert abs(atoms.get_potential_energy() - alone) < 10.0
        np.testing.assert_array_equal(atoms.get_forces(), 0.0)


def test_results_survive_a_file(potential, tmp_path):
    atoms = bulk("Ar", cubic=True, a=5.0)
    atoms.rattle(0.1, seed=0)
    atoms.calc = MLIPCalculator(potential, dtype="float64")
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    write(tmp_path / "frame.xyz", atoms)
    again = read(tmp_path / "frame.xyz")
    assert again.get_potential_energy() == pytest.approx(energy, abs=1e-8)
    np.testing.assert_allclose(again.get_forces(), forces, atol=1e-7)
    np.testing.assert_allclose(again.get_stress(), stress, atol=1e-7)


@pytest.mark.parametrize("model", ["mace"], indirect=True)
def test_callers_model_stays_as_it_is(model, calculator_of):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    atoms = molecule("H2O")
    atoms.calc = calculator_of(model)
    atoms.get_forces()
    assert model.training
    assert model.dtype == torch.float64
    assert atoms.calc.model.dtype == torch.float32
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.eval()


@pytest.mark.parametrize("model", ["mace"], indirect=True)
def test_float32_is_close_to_float64(model, calculator_of):
    single, double = molecule("CH3CH2OH"), molecule("CH3CH2OH")
    single.calc, double.calc = calculator_of(model), calculator_of(model, dtype="float64")
    assert single.get_potential_energy() == pytest.approx(double.get_potential_energy(), abs=1e-5)
    np.testing.assert_allclose(single.get_forces(), double.get_forces(), atol=1e-5)
    assert single.get_forces().dtype == np.float64


def test_reads_a_model_file(model, tmp_path, calculator_of):
    save(model, tmp_path / "model.mlip")
    from_file, from_memory = molecule("CH3OH"), molecule("CH3OH")
    from_file.calc = calculator_of(tmp_path / "model.mlip", dtype="float64")
    from_memory.calc = calculator_of(model, dtype="float64")
    assert from_file.get_potential_energy() == from_memory.get_potential_energy()
    np.testing.assert_array_equal(from_file.get_forces(), from_memory.get_forces())


def test_charges_do_not_trigger_a_calculation(potential):
    atoms = Atoms("Ar2", positions=[[0, 0, 0], [2.4, 0, 0]])
    atoms.calc = MLIPCalculator(potential)
    atoms.get_potential_energy()
    atoms.set_initial_charges([1.0, -1.0])
    assert not atoms.calc.calculation_required(atoms, ["energy", "forces"])
    atoms.positions[1, 0] += 1e-15 * atoms.positions[1, 0]
    assert atoms.calc.calculation_required(atoms, ["energy"])


def test_energy_is_conserved(model, calculator_of):
    from ase.md.verlet import VelocityVerlet

    atoms = molecule("CH3CH2OH")
    atoms.calc = calculator_of(model, dtype="float64")
    rng = np.random.default_rng(1)
    atoms.set_momenta(rng.normal(size=(9, 3)) * np.sqrt(units.kB * 200 * atoms.get_masses())[:, None])
    energies = []
    dynamics = VelocityVerlet(atoms, 0.25 * units.fs)
    dynamics.attach(lambda: energies.append(atoms.get_total_energy()))
    dynamics.run(100)
    kinetic = atoms.get_kinetic_energy()
    assert kinetic > 0.05
    assert np.ptp(energies) < 2e-3 * kinetic


@pytest.mark.parametrize(
    ("atoms", "error", "message"),
    [
        (Atoms(), StructureError, "no atoms"),
        (Atoms("Ar", positions=[[np.nan, 0, 0]]), StructureError, "nan"),
        (Atoms("Ar", positions=[[np.inf, 0, 0]]), StructureError, "inf"),
        (Atoms("Ar", pbc=True), StructureError, "volume"),
        (Atoms("Ar", cell=[[3, 0, 0], [6, 0, 0], [0, 0, 3]], pbc=True), StructureError, "volume"),
        (Atoms("Ar", cell=[3, 3, np.nan], pbc=True), StructureError, "nan"),
        (Atoms("Ar3", positions=[[0, 0, 0], [1, 2, 0], [1, 2, 0]]), StructureError, "atoms 1 and 2"),
        (Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 4]], cell=[4, 4, 4], pbc=True), StructureError, "atoms 0 and 1"),
        (Atoms("XAr", positions=[[0, 0, 0], [0, 0, 3]]), StructureError, "atomic number 0"),
    ],
)
def test_unphysical_structures_are_refused(potential, atoms, error, message):
    atoms.calc = MLIPCalculator(potential)
    for ask in (atoms.get_potential_energy, lambda: atoms.calc.hessian(atoms), lambda: atoms.calc.evaluate([atoms])):
        with pytest.raises(error, match=message):
            ask()


def test_unphysical_structures_are_refused_in_the_middle_of_a_run(potential):
    atoms = Atoms("Ar3", positions=[[0, 0, 0], [2.4, 0, 0], [0, 2.4, 0]])
    atoms.calc = MLIPCalculator(potential, skin=20.0)
    energy = atoms.get_potential_energy()
    good = atoms.positions.copy()
    atoms.positions[1] = [0, 0, 0.001]
    with pytest.raises(StructureError, match="atoms 0 and 1"):
        atoms.get_forces()
    atoms.positions[1] = np.nan
    with pytest.raises(StructureError, match="nan"):
        atoms.get_forces()
    atoms.positions = good
    assert atoms.get_potential_energy() == energy


def test_unknown_element_is_named(model, calculator_of):
    atoms = Atoms("CXe", positions=[[0, 0, 0], [0, 0, 2]])
    atoms.calc = calculator_of(model, dtype="float64")
    with pytest.raises(UnknownElementError, match="Xe"):
        atoms.get_potential_energy()
    with pytest.raises(UnknownElementError, match=r"structure 1 .* Xe"):
        atoms.calc.evaluate([Atoms("C"), atoms])


def test_wrong_arguments_are_named(potential, tmp_path):
    with pytest.raises(ConfigError, match="float16"):
        MLIPCalculator(potential, dtype="float16")
    with pytest.raises(ConfigError, match="teapot"):
        MLIPCalculator(potential, device="teapot")
    with pytest.raises(ConfigError, match="cuda:99"):
        MLIPCalculator(potential, device="cuda:99")
    with pytest.raises(FileMissingError, match=r"absent\.mlip"):
        MLIPCalculator(tmp_path / "absent.mlip")
    (tmp_path / "bad.mlip").write_bytes(b"not a model")
    with pytest.raises(ModelFileError, match=r"bad\.mlip"):
        MLIPCalculator(tmp_path / "bad.mlip")
