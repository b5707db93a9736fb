"""Reading: real data without a hand edit, and every kind of damage reported with file and frame."""

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.io.extxyz import read_xyz

from mlip.data.dataset import require_labels
from mlip.data.labels import LabelKeys
from mlip.data.reading import iterate_structures, key_hint, read_structures
from mlip.errors import DataError, FileMissingError, StructureError

FRAME = """3
Properties=species:S:1:pos:R:3:forces:R:3 energy=-14.5 config_type=water pbc="F F F"
O 0.0 0.0 0.119 0.0 0.0 0.5
H 0.0 0.763 -0.477 0.0 0.1 -0.25
H 0.0 -0.763 -0.477 0.0 -0.1 -0.25
"""

# file, key of the energy, frames, atoms in all, structures with energy, forces, stress
REAL_DATA = [
    ("acac/train_300K.xyz", "energy", 500, 7500, 500, 500, 0),
    ("acac/test_H_transfer.xyz", "energy", 15, 225, 15, 0, 0),
    ("acac/isolated_atoms.xyz", "energy", 3, 3, 3, 0, 0),
    ("3bpa/train_300K.xyz", "energy", 500, 13500, 500, 500, 0),
    ("rmd17/ethanol/train_01.xyz", "Energy", 1000, 9000, 1000, 1000, 0),
    ("rmd17/aspirin/test_01.xyz", "Energy", 1000, 21000, 1000, 1000, 0),
    ("pbc_structures.xyz", "energy", 92, 2972, 92, 92, 87),
]


@pytest.mark.parametrize(("name", "key", "frames", "atoms", "energies", "forces", "stresses"), REAL_DATA)
def test_real_data(shared_data, name, key, frames, atoms, energies, forces, stresses):
    structures = read_structures(shared_data / name, LabelKeys(energy=key))
    assert (len(structures), sum(map(len, structures))) == (frames, atoms)
    counted = [sum(getattr(s, label) is not None for s in structures) for label in ("energy", "forces", "stress")]
    assert counted == [energies, forces, stresses]


def test_labels_equal_the_text_of_the_file(shared_data):
    """The numbers of the first frame, parsed here by hand."""
    path = shared_data / "rmd17" / "ethanol" / "train_01.xyz"
    structure = next(iterate_structures(path, LabelKeys(energy="Energy")))
    lines = path.read_text().splitlines()
    assert structure.energy == float(lines[1].split("Energy=")[1].split()[0])
    table = np.array([line.split()[1:7] for line in lines[2:11]], dtype=float)
    np.testing.assert_array_equal(structure.positions, table[:, :3])
    np.testing.assert_array_equal(structure.forces, table[:, 3:])


def test_stress_of_a_periodic_file_equals_ase(shared_data):
    path = shared_data / "pbc_structures.xyz"
    structures = read_structures(path)
    for structure, atoms in zip(structures, ase.io.read(path, ":"), strict=True):
        if structure.stress is not None:
            np.testing.assert_allclose(structure.stress, atoms.get_stress(voigt=False), rtol=1e-12, atol=0)
        np.testing.assert_array_equal(structure.pbc, atoms.pbc)


@pytest.mark.parametrize("name", ["water.traj", "water.db", "water.xyz.gz", "water.json"])
def test_other_formats_of_ase(tmp_path, name):
    (tmp_path / "water.xyz").write_text(FRAME + FRAME)
    atoms = ase.io.read(tmp_path / "water.xyz", ":")
    ase.io.write(tmp_path / name, atoms)
    structures = read_structures(tmp_path / name)
    assert len(structures) == 2
    assert structures[1].energy == -14.5
    np.testing.assert_array_equal(structures[0].forces, atoms[0].get_forces())


def test_structure_files_without_labels(tmp_path):
    ase.io.write(tmp_path / "POSCAR", bulk("Si"), format="vasp")
    ase.io.write(tmp_path / "plain.xyz", molecule("CH4"), format="xyz")
    (silicon,) = read_structures(tmp_path / "POSCAR")
    (methane,) = read_structures(tmp_path / "plain.xyz")
    assert silicon.pbc.all()
    assert not methane.pbc.any()
    assert silicon.energy is methane.energy is None


def test_reading_is_lazy(tmp_path):
    path = tmp_path / "second-is-bad.xyz"
    path.write_text(FRAME + FRAME.replace("0.763", "nan"))
    structures = iterate_structures(path)
    assert next(structures).energy == -14.5
    with pytest.raises(StructureError, match=r"second-is-bad.xyz, frame 1 \(counted from 0\): atom 1 is at"):
        next(structures)


def test_blank_lines_do_not_end_the_file(tmp_path):
    """ASE's reader stops at the first one, and would lose the rest without a word."""
    path = tmp_path / "blank.xyz"
    path.write_text("\n" + FRAME + "\n\n" + FRAME + FRAME + "\n")
    assert len(read_structures(path)) == 3


def test_windows_line_ends_missing_last_newline_and_blank_comment(tmp_path):
    path = tmp_path / "odd.xyz"
    path.write_bytes(FRAME.replace("\n", "\r\n").encode() + b"1\n\nH 0 0 0")
    water, atom = read_structures(path)
    assert (water.energy, len(water), len(atom), atom.energy) == (-14.5, 3, 1, None)


def test_cell_vectors_after_the_atoms(tmp_path):
    path = tmp_path / "vec.xyz"
    path.write_text("1\nold dialect\nH 0 0 0\nVEC1 3 0 0\nVEC2 0 4 0\nVEC3 0 0 5\n" + FRAME)
    with path.open() as file:
        expected = list(read_xyz(file, slice(None)))
    boxed, water = read_structures(path)
    np.testing.assert_array_equal(boxed.cell, expected[0].cell.array)
    np.testing.assert_array_equal(boxed.pbc, expected[0].pbc)
    assert len(water) == len(expected[1]) == 3


DAMAGE = {
    "truncated in a frame": (
        FRAME + FRAME[: FRAME.index("H 0.0 0.763")],
        r"frame 1 .* has 1 of its 3 atoms; the file is truncated",
    ),
    "truncated in a number's columns": (FRAME + FRAME.rstrip()[:-12], r"frame 1 .* has 2 of its 3 atoms"),
    "short line": (FRAME.replace(" 0.1 -0.25", "") + FRAME, r"frame 0 .* cannot be read"),
    "truncated after the header": (FRAME + "3\n", r"frame 1 .* has 0 of its 3 atoms"),
    "wrong number of atoms": (FRAME.replace("3\n", "2\n", 1) + FRAME, r"frame 1 .* starts with 'H 0.0 -0.763"),
    "letters for numbers": (FRAME + FRAME.replace("0.763", "zero"), r"frame 1 .* cannot be read .*zero"),
    "unknown symbol": (FRAME.replace("O 0.0", "Qq 0.0"), r"frame 0 .* cannot be read .*Qq"),
    "text": ("hello\nworld\n", "frame 0 .* starts with 'hello' instead of a number of atoms"),
    "energy is text": (FRAME.replace("-14.5", "unknown"), r"frame 0 .*: the energy label 'energy' is 'unknown'"),
    "energy is NaN": (FRAME + FRAME.replace("-14.5", "nan"), r"frame 1 .*: the energy label is nan"),
    "forces of two columns": (
        FRAME.replace("forces:R:3", "forces:R:2"),
        r"frame 0 .*: the forces label 'forces' is an array of shape \[3, 2\]",
    ),
    "force is infinite": (FRAME.replace("-0.25", "inf"), r"frame 0 .*: the forces label of atom 1 is inf"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_files_name_file_and_frame(tmp_path, name):
    text, message = DAMAGE[name]
    path = tmp_path / "damaged.xyz"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_structures(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["random.xyz", "random.traj", "random.h5", "random.unknown", "random.xyz.gz"])
def test_random_bytes_are_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(np.random.default_rng(0).bytes(3000))
    with pytest.raises(DataError, match=name):
        read_structures(path)


@pytest.mark.parametrize("name", ["empty.xyz", "empty.h5", "empty.traj", "empty.json"])
def test_empty_files_are_refused(tmp_path, name):
    path = tmp_path / name
    path.touch()
    with pytest.raises(DataError, match=name):
        read_structures(path)


def test_missing_files_and_folders(tmp_path):
    for name in ("none.xyz", "none.h5"):
        with pytest.raises(FileMissingError, match=name):
            read_structures(tmp_path / name)
    with pytest.raises(DataError, match=tmp_path.name):
        read_structures(tmp_path)


def test_truncated_trajectory(tmp_path):
    path = tmp_path / "cut.traj"
    ase.io.write(path, [molecule("CH4")] * 5)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"cut\.traj"):
        read_structures(path)


def test_missing_labels_name_the_keys_of_the_file(tmp_path):
    path = tmp_path / "capital.xyz"
    path.write_text("1\nProperties=species:S:1:pos:R:3 charge=1\nH 0 0 0\n" + FRAME.replace("energy", "Energy"))
    hint = key_hint(path, "energy", LabelKeys())
    assert hint == "the file has charge, Energy: name it with --key energy=Energy"
    assert key_hint(path, "stress", LabelKeys()) == ""
    message = "under the key 'energy'; the file has charge, Energy: name it with data.keys.energy=Energy"
    with pytest.raises(DataError, match=message):
        require_labels({"energy": 0, "forces": 1}, ["forces", "energy"], path)
    require_labels({"energy": 1, "forces": 1}, ["energy", "forces"], path)
    with pytest.raises(DataError, match="set the weight of that loss to 0"):
        require_labels({"energy": 1}, ["stress"], "the training data")
