"""`mlip data import`, `info` and `split` as a user types them, on good and on bad input."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

from mlip.cli.data import app
from mlip.data.reading import read_structures
from mlip.data.store import StructureStore
from mlip.errors import ConfigError, DataError, FileMissingError, MLIPError, StructureError


def mlip_data(*arguments: str | Path):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])


def succeed(*arguments: str | Path) -> str:
    result = mlip_data(*arguments)
    if result.exception is not None:
        raise result.exception
    assert result.exit_code == 0
    return result.output


def fail(*arguments: str | Path) -> MLIPError:
    error = mlip_data(*arguments).exception
    assert isinstance(error, MLIPError), error
    assert "\n" not in str(error)
    return error


@pytest.fixture
def molecules(tmp_path) -> Path:
    """Twenty frames under usual keys, with a column and an entry of their own and one duplicate."""
    rng = np.random.default_rng(0)
    frames = []
    for index in range(20):
        atoms = molecule(["CH3CH2OH", "H2O"][index % 2])
        atoms.rattle(0.05, seed=index)
        atoms.info.update(config_type=["liquid", "gas"][index % 2], temperature=300 + index)
        atoms.set_tags(rng.integers(0, 9, len(atoms)))
        atoms.calc = SinglePointCalculator(atoms, energy=rng.normal(), forces=rng.normal(size=(len(atoms), 3)))
        frames.append(atoms)
    frames[6] = frames[4]
    ase.io.write(tmp_path / "molecules.xyz", frames)
    return tmp_path / "molecules.xyz"


@pytest.fixture
def capital(tmp_path) -> Path:
    """Three frames whose energy is called `Energy`."""
    frames = [bulk("Si", cubic=True), molecule("CH4"), molecule("NH3")]
    for index, atoms in enumerate(frames):
        atoms.info["Energy"] = float(index)
    ase.io.write(tmp_path / "capital.xyz", frames)
    return tmp_path / "capital.xyz"


def table_row(output: str, label: str) -> str:
    (line,) = [line for line in output.splitlines() if label in line]
    return line.split("│")[2].strip()


def test_info_of_a_file_and_of_its_store(molecules, tmp_path):
    store = tmp_path / "molecules.h5"
    succeed("import", molecules, "-o", store)
    for output in (succeed("info", molecules), succeed("info", store)):
        assert table_row(output, "structures") == "20"
        assert table_row(output, "│ atoms ") == "120 (3 to 9 in a structure)"
        assert table_row(output, "3 elements, atoms of each") == "H 80, C 20, O 20"
        assert table_row(output, "kinds of configuration") == "liquid 10, gas 10"
        assert table_row(output, "duplicates") == "1"
        assert table_row(output, "periodic directions") == "none in 20"
        assert table_row(output, "stress labels") == "none"
        assert table_row(output, "forces labels").startswith("20, norm ")
    energies = [structure.energy / len(structure) for structure in read_structures(molecules)]
    expected = f"20, {min(energies):.6g} to {max(energies):.6g} eV/atom"
    assert table_row(output, "energy labels") == expected


def test_import_keeps_every_number(molecules, tmp_path):
    store = tmp_path / "made" / "on" / "the way.h5"
    succeed("import", molecules, "--output", store)
    for found, expected in zip(StructureStore(store), read_structures(molecules), strict=True):
        np.testing.assert_array_equal(found.positions, expected.positions)
        np.testing.assert_array_equal(found.forces, expected.forces)
        assert (found.energy, found.config_type) == (expected.energy, expected.config_type)


def test_import_of_several_files_append_and_force(molecules, capital, tmp_path):
    store = tmp_path / "all.h5"
    succeed("import", molecules, molecules, "-o", store)
    assert len(StructureStore(store)) == 40
    assert isinstance(fail("import", molecules, "-o", store), ConfigError)
    assert len(StructureStore(store)) == 40
    output = succeed("import", capital, "-o", store, "--append", "--key", "energy=Energy")
    assert "now holds 43 structures" in output
    assert [source["structures"] for source in StructureStore(store).metadata["sources"]] == [20, 20, 3]
    assert StructureStore(store)[42].energy == 2.0
    succeed("import", capital, "-o", store, "--force", "--key", "energy=Energy")
    assert len(StructureStore(store)) == 3
    both = fail("import", capital, "-o", store, "--force", "--append")
    assert "give one of the two" in str(both)


def test_stores_can_be_merged(molecules, capital, tmp_path):
    succeed("import", molecules, "-o", tmp_path / "a.h5")
    succeed("import", tmp_path / "a.h5", capital, "-o", tmp_path / "b.h5")
    assert len(StructureStore(tmp_path / "b.h5")) == 23


def test_similar_keys_are_pointed_at(capital, tmp_path):
    note = "has the key 'energy' for energy; the file has Energy: name it with --key energy=Energy."
    assert note in succeed("info", capital)
    assert note in succeed("import", capital, "-o", tmp_path / "a.h5")
    assert "Note" not in succeed("info", capital, "--key", "energy=Energy")
    wrong = fail("info", capital, "--key", "energy=REF_energy")
    assert "no frame of" in str(wrong)
    assert "--key energy=Energy" in str(wrong)
    assert isinstance(fail("import", capital, "-o", tmp_path / "b.h5", "--key", "forces=F"), DataError)
    assert not (tmp_path / "b.h5").exists()


def test_a_bad_frame_leaves_nothing_behind(molecules, tmp_path):
    store = tmp_path / "store.h5"
    bad = tmp_path / "bad.xyz"
    bad.write_text(molecules.read_text() + "2\n\nH 0 0 0\nH 0 0 0\n")
    error = fail("import", bad, "-o", store)
    assert isinstance(error, StructureError)
    assert "bad.xyz, frame 20" in str(error)
    succeed("import", molecules, "-o", store)
    before = store.read_bytes()
    for mode in ("--append", "--force"):
        fail("import", bad, "-o", store, mode)
        assert store.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.xyz", "molecules.xyz", "store.h5"]


def test_input_and_output_that_make_no_sense(molecules, tmp_path):
    assert isinstance(fail("info", tmp_path / "none.xyz"), FileMissingError)
    assert isinstance(fail("import", tmp_path / "none.xyz", "-o", tmp_path / "a.h5"), FileMissingError)
    assert isinstance(fail("import", molecules, "-o", tmp_path / "a.h5", "--append"), FileMissingError)
    assert "ends in .h5" in str(fail("import", molecules, "-o", tmp_path / "a.xyz"))
    assert "PROPERTY=NAME" in str(fail("info", molecules, "--key", "Energy"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["molecules.xyz"]


def test_split_copies_frames_as_they_stand(molecules, tmp_path):
    output = succeed("split", molecules, "-o", tmp_path / "part", "--seed", "3")
    names = [f"part_{part}.xyz" for part in ("train", "validation", "test")]
    assert [line.rsplit("/")[-1] for line in output.split("\n") if line] == [
        f"{name}: {count} structures" for name, count in zip(names, (16, 2, 2), strict=True)
    ]
    texts = [(tmp_path / name).read_text() for name in names]
    assert sorted("".join(texts).splitlines()) == sorted(molecules.read_text().splitlines())
    temperatures = [[atoms.info["temperature"] for atoms in ase.io.read(tmp_path / name, ":")] for name in names]
    assert temperatures[0] == sorted(temperatures[0])
    succeed("split", molecules, "-o", tmp_path / "again", "--seed", "3")
    assert [(tmp_path / name.replace("part", "again")).read_text() for name in names] == texts
    succeed("split", molecules, "-o", tmp_path / "again", "--seed", "4", "--force")
    assert (tmp_path / "again_test.xyz").read_text() != texts[2]


def test_split_of_a_store(molecules, tmp_path):
    succeed("import", molecules, "-o", tmp_path / "all.h5")
    succeed("split", tmp_path / "all.h5", "-o", tmp_path / "all", "--fractions", "0.75", "0.25", "0")
    succeed("split", molecules, "-o", tmp_path / "all", "--fractions", "0.75", "0.25", "0")
    for part, count in (("train", 15), ("validation", 5)):
        store = StructureStore(tmp_path / f"all_{part}.h5")
        assert len(store) == count
        for one, other in zip(store, read_structures(tmp_path / f"all_{part}.xyz"), strict=True):
            np.testing.assert_array_equal(one.positions, other.positions)
    assert not list(tmp_path.glob("all_test*"))


def test_split_of_another_format(molecules, tmp_path):
    ase.io.write(tmp_path / "molecules.traj", ase.io.read(molecules, ":"))
    succeed("split", tmp_path / "molecules.traj", "-o", tmp_path / "t")
    parts = [
        atoms for part in ("train", "validation", "test") for atoms in ase.io.read(tmp_path / f"t_{part}.xyz", ":")
    ]
    assert len(parts) == 20
    assert all("temperature" in atoms.info and atoms.calc is not None for atoms in parts)


def test_split_refusals(molecules, tmp_path):
    assert "add up to 1.1" in str(fail("split", molecules, "-o", tmp_path / "p", "--fractions", "0.8", "0.2", "0.1"))
    assert "is none" in str(fail("split", molecules, "-o", tmp_path / "p", "--fractions", "0.98", "0.01", "0.01"))
    assert isinstance(fail("split", tmp_path / "none.xyz", "-o", tmp_path / "p"), FileMissingError)
    (tmp_path / "p_test.xyz").write_text("mine")
    assert "p_test.xyz exists already" in str(fail("split", molecules, "-o", tmp_path / "p"))
    assert (tmp_path / "p_test.xyz").read_text() == "mine"
    damaged = tmp_path / "damaged.xyz"
    damaged.write_text(molecules.read_text()[:-80])
    assert "truncated" in str(fail("split", damaged, "-o", tmp_path / "q"))
    assert not list(tmp_path.glob("q_*"))


def test_names_are_shown_as_they_are(tmp_path):
    atoms = molecule("H2O")
    atoms.info["config_type"] = "[red]surface[/]"
    ase.io.write(tmp_path / "markup.xyz", atoms)
    assert "[red]surface[/]" in succeed("info", tmp_path / "markup.xyz")


@pytest.mark.parametrize(("name", "key"), [("rmd17/ethanol/train_01.xyz", "Energy"), ("pbc_structures.xyz", "energy")])
def test_real_data_end_to_end(shared_data, tmp_path, name, key):
    source = shared_data / name
    succeed("import", source, "-o", tmp_path / "real.h5", "--key", f"energy={key}")
    succeed("split", tmp_path / "real.h5", "-o", tmp_path / "real")
    frames = len(ase.io.read(source, ":"))
    parts = [len(StructureStore(tmp_path / f"real_{part}.h5")) for part in ("train", "validation", "test")]
    assert sum(parts) == frames
    assert parts[1] == pytest.approx(0.1 * frames, abs=1)
