"""Structures: labels found wherever ASE puts them, and refusals that name file, frame, atom, value and remedy."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from mlip.data.labels import LabelKeys, candidate_keys, suggest_key
from mlip.data.structures import Structure
from mlip.errors import ConfigError, DataError, StructureError

FULL_STRESS = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]])
VOIGT_STRESS = np.arange(1.0, 7.0)  # xx yy zz yz xz xy


def water(**info) -> Atoms:
    atoms = molecule("H2O")
    atoms.info.update(info)
    return atoms


def test_labels_in_info_and_arrays():
    atoms = water(REF_energy=-1.5, REF_stress=VOIGT_STRESS)
    atoms.arrays["REF_forces"] = np.arange(9.0).reshape(3, 3)
    keys = LabelKeys(energy="REF_energy", forces="REF_forces", stress="REF_stress")
    structure = Structure.from_atoms(atoms, keys)
    assert structure.energy == -1.5
    np.testing.assert_array_equal(structure.forces, np.arange(9.0).reshape(3, 3))
    np.testing.assert_array_equal(structure.stress, FULL_STRESS)


def test_labels_in_a_calculator_and_stated_labels_go_first():
    atoms = water()
    atoms.calc = SinglePointCalculator(atoms, energy=-2.0, forces=np.ones((3, 3)), free_energy=-2.1)
    structure = Structure.from_atoms(atoms, LabelKeys())
    assert (structure.energy, structure.stress) == (-2.0, None)
    np.testing.assert_array_equal(structure.forces, 1.0)
    assert Structure.from_atoms(atoms, LabelKeys(energy="free_energy")).energy == -2.1
    atoms.info["energy"] = -3.0
    assert Structure.from_atoms(atoms, LabelKeys()).energy == -3.0


def test_without_keys_labels_are_not_read():
    structure = Structure.from_atoms(water(energy="no number at all"))
    assert (structure.energy, structure.forces, structure.stress) == (None, None, None)


def test_total_charge_charges_and_dipole(tmp_path):
    atoms = water(charge=-1, dipole=[0.0, 0.5, 1.0])
    atoms.arrays["charges"] = np.array([-0.8, -0.1, -0.1])
    structure = Structure.from_atoms(atoms, LabelKeys())
    assert structure.total_charge == -1.0
    np.testing.assert_array_equal(structure.charges, [-0.8, -0.1, -0.1])
    np.testing.assert_array_equal(structure.dipole, [0.0, 0.5, 1.0])
    # Through a file, where ASE moves charges and dipole into a calculator.
    ase.io.write(tmp_path / "water.xyz", structure.to_atoms())
    read = ase.io.read(tmp_path / "water.xyz")
    again = Structure.from_atoms(read, LabelKeys())
    assert again.total_charge == -1.0
    np.testing.assert_allclose(again.charges, structure.charges, rtol=0, atol=1e-8)
    np.testing.assert_allclose(again.dipole, structure.dipole, rtol=0, atol=1e-8)
    # What models take of a structure is read without labels too.
    unlabelled = Structure.from_atoms(atoms)
    assert unlabelled.total_charge == -1.0
    assert unlabelled.charges is not None
    assert unlabelled.dipole is None
    assert Structure.from_atoms(water(Q=2.0), LabelKeys(total_charge="Q")).total_charge == 2.0


def test_a_periodic_structure_has_no_dipole():
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.info["dipole"] = [1.0, 2.0, 3.0]
    assert Structure.from_atoms(atoms, LabelKeys()).dipole is None


@pytest.mark.parametrize("charge", ["neutral", [1.0, 2.0], True])
def test_a_total_charge_that_is_no_number_is_refused(charge):
    with pytest.raises(DataError, match=r"frame 7: the total charge 'charge' is .* one number per structure"):
        Structure.from_atoms(water(charge=charge), where="frame 7")


@pytest.mark.parametrize("value", [VOIGT_STRESS, FULL_STRESS, FULL_STRESS.ravel(), FULL_STRESS.tolist()])
def test_stress_in_every_notation(value):
    structure = Structure.from_atoms(water(stress=value), LabelKeys())
    np.testing.assert_array_equal(structure.stress, FULL_STRESS)


def test_forces_of_a_constrained_atom_are_the_raw_ones():
    from ase.constraints import FixAtoms

    atoms = water()
    atoms.calc = SinglePointCalculator(atoms, forces=np.ones((3, 3)))
    atoms.set_constraint(FixAtoms([0]))
    np.testing.assert_array_equal(Structure.from_atoms(atoms, LabelKeys()).forces, 1.0)


def test_round_trip_through_atoms_and_extended_xyz(tmp_path):
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.info.update(energy=-7.25, stress=VOIGT_STRESS, weight=0.5, config_type="salt")
    atoms.arrays["forces"] = np.array([[0.5, 0.25, 0.125], [-0.5, -0.25, -0.125]])
    structure = Structure.from_atoms(atoms, LabelKeys())
    ase.io.write(tmp_path / "salt.xyz", structure.to_atoms())
    restored = Structure.from_atoms(ase.io.read(tmp_path / "salt.xyz"), LabelKeys())
    for name in ("numbers", "positions", "cell", "pbc", "energy", "forces", "stress", "weight", "config_type"):
        np.testing.assert_array_equal(getattr(restored, name), getattr(structure, name), err_msg=name)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"energy": "abc"}, r"f, frame 3: the energy label 'energy' is 'abc' instead of one number"),
        ({"energy": True}, "is True instead of one number"),
        ({"energy": np.zeros(2)}, r"an array of shape \[2\]"),
        ({"stress": np.zeros(5)}, r"shape \[5\] and type float64 instead of numbers of shape \[6\], \[9\] or \[3, 3\]"),
        ({"weight": "heavy"}, "the weight is 'heavy'"),
    ],
)
def test_labels_of_the_wrong_kind_are_refused(info, message):
    with pytest.raises(DataError, match=message):
        Structure.from_atoms(water(**info), LabelKeys(), "f, frame 3")


def test_forces_of_the_wrong_shape_are_refused():
    atoms = water()
    atoms.arrays["forces"] = np.zeros((3, 2))
    with pytest.raises(DataError, match=r"forces label 'forces' is an array of shape \[3, 2\].*shape \[3, 3\]"):
        Structure.from_atoms(atoms, LabelKeys(), "f")


def test_good_structures_pass():
    for atoms in (molecule("C6H6"), bulk("Cu"), Atoms("H"), Atoms("H2", [[0, 0, 0], [0, 0, 0.3]])):
        assert Structure.from_atoms(atoms).validate("good") is None


def with_position(index: int, value: float) -> Atoms:
    atoms = molecule("CH4")
    atoms.positions[index, 0] = value
    return atoms


BAD_STRUCTURES = {
    "NaN": (with_position(3, np.nan), r"atom 3 is at \(nan, "),
    "infinite": (with_position(1, np.inf), "atom 1 is at .inf"),
    "no atoms": (Atoms(), "there are no atoms"),
    "dummy atom": (Atoms("XH", [[0, 0, 0], [0, 0, 1]]), "atom 0 has the atomic number 0"),
    "doubled atom": (Atoms("HCC", [[0, 0, 0], [3, 0, 0], [3, 0, 0.005]]), "atoms 1 and 2 are 0.005 Å apart"),
    "same spot": (Atoms("HCH", [[0, 0, 0], [3, 0, 0], [0, 0, 0]]), "atoms 0 and 2 are 0 Å apart"),
    "same spot by an image": (
        Atoms("H2", [[0, 0, 0.001], [0, 0, 8.0]], cell=np.eye(3) * 4, pbc=True),
        r"atoms 0 and 1 are 0.001 Å apart \(through the periodic boundary\)",
    ),
    "same spot in a sparse cell": (
        Atoms("H2", [[0.5, 0.5, 0.5], [50.5, 0.5, -49.501]], cell=np.eye(3) * 50, pbc=True),
        "atoms 0 and 1 are 0.001 Å apart",
    ),
    "no volume": (Atoms("H", cell=[3, 3, 0], pbc=True), "periodic along a and b and c, but the cell .* has no volume"),
    "flat cell": (
        Atoms("H", cell=[[3, 0, 0], [0, 3, 0], [3, 3, 0]], pbc=True),
        "has no volume there; give the cell vectors",
    ),
    "NaN cell": (Atoms("H", cell=[3, 3, np.nan], pbc=True), "finite cell vectors"),
}


@pytest.mark.parametrize("name", BAD_STRUCTURES)
def test_unphysical_structures_are_refused(name):
    atoms, message = BAD_STRUCTURES[name]
    with pytest.raises(StructureError, match=message) as caught:
        Structure.from_atoms(atoms).validate("data.xyz, frame 7")
    assert str(caught.value).startswith("data.xyz, frame 7: ")
    assert "\n" not in str(caught.value)


def test_an_unused_cell_of_a_molecule_may_be_flat():
    for pbc in (False, [True, True, False]):
        assert Structure.from_atoms(Atoms("H", cell=[3, 3, 0], pbc=pbc)).validate("unused cell vector") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"energy": np.nan}, "the energy label is nan; remove the frame"),
        ({"forces": np.array([[0, 0, 0], [0, np.inf, 0.0]])}, "the forces label of atom 1 is inf"),
        ({"stress": np.full((3, 3), np.nan)}, "the stress label is nan"),
        ({"forces": np.zeros((3, 3))}, r"forces has shape \[3, 3\] instead of \[2, 3\]"),
        ({"weight": -1.0}, "the weight is -1"),
        ({"weight": np.nan}, "the weight is nan"),
        ({"charges": np.array([0.0, np.nan])}, "the charges label of atom 1 is nan"),
        ({"charges": np.zeros(3)}, r"charges has shape \[3\] instead of \[2\]"),
        ({"dipole": np.zeros(2)}, r"dipole has shape \[2\] instead of \[3\]"),
        ({"total_charge": np.inf}, "the total charge is inf"),
    ],
)
def test_bad_labels_are_refused(changes, message):
    structure = Structure(numbers=np.array([1, 1]), positions=np.eye(3)[:2], **changes)
    with pytest.raises(DataError, match=message):
        structure.validate("a.xyz, frame 0")


def test_key_options():
    keys = LabelKeys.from_options(["energy=REF_energy", "stress=a=b"])
    assert (keys.energy, keys.forces, keys.stress) == ("REF_energy", "forces", "a=b")
    for wrong in ("energy", "energie=x", "energy=", "=x"):
        with pytest.raises(ConfigError, match="PROPERTY=NAME"):
            LabelKeys.from_options([wrong])


def test_key_suggestions():
    atoms = water(Energy=1.0, dft_free_energy=2.0, charge=1, virial_stress=np.zeros(6), note="energy")
    atoms.arrays["DFT_forces"] = np.zeros((3, 3))
    atoms.set_velocities(np.ones((3, 3)))
    candidates = candidate_keys(atoms)
    assert candidates["energy"] == ["Energy", "dft_free_energy", "charge"]
    assert set(candidates["forces"]) == {"DFT_forces", "momenta"}
    assert suggest_key("energy", "energy", candidates["energy"]) == "Energy"
    assert suggest_key("forces", "forces", candidates["forces"]) == "DFT_forces"
    assert suggest_key("stress", "stress", candidates["stress"]) == "virial_stress"
    assert suggest_key("energy", "energy", ["charge", "spin"]) is None
