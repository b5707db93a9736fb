"""`mlip relax`."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read, write

from mlip import MLIPCalculator


@pytest.fixture
def structure(tmp_path):
    """A distorted methanol molecule in a file."""
    atoms = molecule("CH3OH")
    atoms.rattle(0.05, seed=1)
    write(tmp_path / "start.xyz", atoms)
    return tmp_path / "start.xyz"


@pytest.mark.parametrize("optimizer", ["fire", "lbfgs", "bfgs"])
def test_relaxes_a_molecule(run, model_file, structure, tmp_path, optimizer):
    target, path = tmp_path / "end.xyz", tmp_path / "path.xyz"
    options = ("--fmax", 0.05, "--optimizer", optimizer, "--trajectory", path, "--dtype", "float64")
    result = run("relax", model_file, structure, "-o", target, *options)
    assert result.exit_code == 0, result.output
    assert "Converged after" in result.stdout
    end = read(target)
    end.calc = MLIPCalculator(model_file, dtype="float64")
    assert np.linalg.norm(end.get_forces(), axis=1).max() <= 0.0501
    way = read(path, ":")
    assert way[-1].get_potential_energy() < way[0].get_potential_energy()
    np.testing.assert_allclose(way[0].positions, read(structure).positions, atol=1e-7)
    assert len(way) > 2


def test_relaxes_the_cell(run, model_file, tmp_path):
    atoms = bulk("C", cubic=True)
    atoms.set_cell(atoms.cell.array @ np.array([[1.05, 0.03, 0], [0, 0.97, 0], [0, 0, 1.0]]), scale_atoms=True)
    write(tmp_path / "cell.xyz", atoms)
    options = ("--cell", "--fmax", 0.001, "--steps", 5, "-o", tmp_path / "end.xyz")
    result = run("relax", model_file, tmp_path / "cell.xyz", *options)
    assert result.exit_code == 1, result.output  # five steps are too few
    atoms.calc = MLIPCalculator(model_file)
    end = read(tmp_path / "end.xyz")
    assert np.abs(end.cell.array - atoms.cell.array).max() > 1e-3
    assert end.get_potential_energy() < atoms.get_potential_energy()


def test_other_formats_are_written(run, fails, model_file, structure, tmp_path):
    for name in ("end.traj", "end.pdb"):
        assert run("relax", model_file, structure, "-o", tmp_path / name, "--fmax", 10).exit_code == 0
        assert read(tmp_path / name).symbols.get_chemical_formula() == "CH4O"
    assert "end.vasp" in fails("relax", model_file, structure, "-o", tmp_path / "end.vasp", "--fmax", 10)
    assert not list(tmp_path.glob("end.vasp*"))


def test_no_convergence_is_said(run, model_file, structure, tmp_path):
    result = run("relax", model_file, structure, "-o", tmp_path / "end.xyz", "--steps", 1, "--fmax", 1e-6)
    assert result.exit_code == 1
    assert "Not converged after 1 steps" in result.stdout
    assert len(read(tmp_path / "end.xyz")) == 6


def test_mistakes_leave_no_file(fails, model_file, structure, tmp_path):
    target = tmp_path / "end.xyz"
    assert "leave the cell out" in fails("relax", model_file, structure, "-o", target, "--cell")
    assert "end.nonsense" in fails("relax", model_file, structure, "-o", tmp_path / "end.nonsense")
    assert "the input itself" in fails("relax", model_file, structure, "-o", structure)
    assert "way.pdb" in fails("relax", model_file, structure, "-o", target, "--trajectory", tmp_path / "way.pdb")
    write(tmp_path / "xenon.xyz", Atoms("Xe"))
    assert "Xe" in fails("relax", model_file, tmp_path / "xenon.xyz", "-o", target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["start.xyz", "xenon.xyz"]
