"""`mlip predict` and `mlip info`."""

import re
import resource

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read, write

from mlip import MLIPCalculator, save
from mlip.models import build_model


@pytest.fixture
def frames(tmp_path):
    """Molecules and a crystal in a file; the molecules are of a kind."""
    frames = [molecule(name) for name in ("CH4", "H2O", "CH3OH", "CO2")] + [bulk("C", cubic=True)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.02, seed=seed)
        atoms.info["config_type"] = "crystal" if atoms.pbc.any() else "molecule"
    write(tmp_path / "in.xyz", frames * 3)
    return read(tmp_path / "in.xyz", ":")


def test_predictions_are_those_of_the_calculator(run, model_file, frames, tmp_path):
    source, target = tmp_path / "in.xyz", tmp_path / "out.xyz"
    result = run("predict", model_file, source, "-o", target, "--stress", "--max-edges", 50, "--dtype", "float64")
    assert result.exit_code == 0, result.output
    assert "out.xyz: 15" in result.stdout
    predicted = read(target, ":")
    expected = MLIPCalculator(model_file, dtype="float64").evaluate(frames)
    for ours, theirs, atoms in zip(predicted, expected, frames, strict=True):
        assert ours.symbols.get_chemical_formula() == atoms.symbols.get_chemical_formula()
        assert ours.info["config_type"] == atoms.info["config_type"]
        assert ours.get_potential_energy() == pytest.approx(theirs["energy"], abs=1e-9)
        np.testing.assert_allclose(ours.get_forces(), theirs["forces"], atol=1e-7)
        assert ("stress" in ours.calc.results) == ("stress" in theirs)
        if "stress" in theirs:
            np.testing.assert_allclose(ours.get_stress(), theirs["stress"], atol=1e-7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.xyz", "out.xyz"]


def test_predictions_go_to_a_store_and_from_one(run, model_file, frames, tmp_path):
    store, again = tmp_path / "out.h5", tmp_path / "again.extxyz"
    assert run("predict", model_file, tmp_path / "in.xyz", "-o", store).exit_code == 0
    assert run("predict", model_file, store, "-o", again).exit_code == 0
    assert run("predict", model_file, tmp_path / "in.xyz", "-o", tmp_path / "direct.xyz").exit_code == 0
    for ours, theirs in zip(read(again, ":"), read(tmp_path / "direct.xyz", ":"), strict=True):
        assert ours.get_potential_energy() == pytest.approx(theirs.get_potential_energy(), rel=1e-7)


def test_old_labels_are_replaced(run, model_file, frames, tmp_path):
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = frames[0]
    atoms.calc = SinglePointCalculator(atoms, energy=123.0, forces=np.ones((5, 3)))
    write(tmp_path / "labelled.xyz", atoms)
    assert run("predict", model_file, tmp_path / "labelled.xyz", "-o", tmp_path / "out.xyz").exit_code == 0
    assert abs(read(tmp_path / "out.xyz").get_potential_energy() - 123.0) > 1.0


def broken(kind: str) -> list[Atoms]:
    """A good frame followed by a bad one."""
    good = molecule("CH4")
    bad = {
        "element": Atoms("CXe", positions=[[0, 0, 0], [0, 0, 2]]),
        "nan": Atoms("CO", positions=[[0, 0, 0], [0, 0, np.nan]]),
        "cell": Atoms("CO", positions=[[0, 0, 0], [0, 0, 1]], cell=[[3, 0, 0], [3, 0, 0], [0, 0, 3]], pbc=True),
        "spot": Atoms("CO", positions=[[1, 2, 3], [1, 2, 3]]),
    }
    return [good, bad[kind]]


@pytest.mark.parametrize(
    ("kind", "fact"),
    [
        ("element", "structure 1 .* Xe"),
        ("nan", "frame 1 .*nan"),
        ("cell", "frame 1 .*volume"),
        ("spot", "atoms 0 and 1"),
    ],
)
@pytest.mark.parametrize("max_edges", [1, 20_000])
def test_bad_structures_leave_the_old_file(fails, model_file, tmp_path, kind, fact, max_edges):
    write(tmp_path / "in.xyz", broken(kind))
    (tmp_path / "out.xyz").write_text("the old file")
    sentence = fails("predict", model_file, tmp_path / "in.xyz", "-o", tmp_path / "out.xyz", "--max-edges", max_edges)
    assert re.search(fact, sentence), sentence
    assert (tmp_path / "out.xyz").read_text() == "the old file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.xyz", "out.xyz"]


@pytest.mark.parametrize("suffix", ["xyz", "h5"])
def test_interrupt_leaves_nothing(run, monkeypatch, model_file, frames, tmp_path, suffix):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("mlip.calculators.evaluation.evaluate_structures", interrupted)
    result = run("predict", model_file, tmp_path / "in.xyz", "-o", tmp_path / f"out.{suffix}")
    assert result.exit_code == 130
    assert [path.name for path in tmp_path.iterdir()] == ["in.xyz"]


def test_full_disk_leaves_the_old_file(fails, model_file, frames, tmp_path):
    (tmp_path / "out.xyz").write_text("the old file")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # a limit on files fails like a disk that is full
    try:
        assert "too large" in fails("predict", model_file, tmp_path / "in.xyz", "-o", tmp_path / "out.xyz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "out.xyz").read_text() == "the old file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.xyz", "out.xyz"]


def test_wrong_files_are_named(fails, model_file, frames, tmp_path):
    source, target = tmp_path / "in.xyz", tmp_path / "out.xyz"
    assert "absent.xyz" in fails("predict", model_file, tmp_path / "absent.xyz", "-o", target)
    assert "absent.mlip" in fails("predict", tmp_path / "absent.mlip", source, "-o", target)
    assert "the input itself" in fails("predict", model_file, source, "-o", source)
    assert "out.cif" in fails("predict", model_file, source, "-o", tmp_path / "out.cif")
    assert "cuda:99" in fails("predict", model_file, source, "-o", target, "--device", "cuda:99")
    damaged = tmp_path / "damaged.mlip"
    damaged.write_bytes(model_file.read_bytes()[:-50])
    assert "damaged.mlip" in fails("predict", damaged, source, "-o", target)
    (tmp_path / "damaged.xyz").write_text("3\n\nH 0 0 0\n")
    assert "damaged.xyz" in fails("predict", model_file, tmp_path / "damaged.xyz", "-o", target)
    assert not target.exists()


def test_info_says_what_a_model_is(run, model_file):
    text = run("info", model_file).stdout
    for fact in ("mace", "H, C, O", "3.5 Å", "4x0e+4x1o", "eV/Å³", "tests [none]", "float32", "MB", "mlip 0.1.0"):
        assert fact in text
    from mlip import load

    count = sum(parameter.numel() for parameter in load(model_file).parameters())
    assert f"{count:,}" in text


def test_info_names_the_tensor_products_of_a_model(run, tmp_path):
    config = {"architecture": "mace", "elements": ["H"], "hidden_irreps": "4x0e", "l_max": 1}
    products = {"convolution": {"backend": "spherical_grid"}, "contraction": {"backend": "cp", "rank": 5}}
    save(build_model(config | {"tensor_product": products}), tmp_path / "swapped.mlip")
    text = run("info", tmp_path / "swapped.mlip").stdout
    assert "gaunt by spherical_grid, weights per_degree" in text
    assert "clebsch_gordan by cp, weights per_degree, rank" in text


def test_info_refuses_what_is_no_model(fails, tmp_path):
    (tmp_path / "text.mlip").write_text("no model")
    assert "text.mlip" in fails("info", tmp_path / "text.mlip")
    assert "absent.mlip" in fails("info", tmp_path / "absent.mlip")
