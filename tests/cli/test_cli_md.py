"""`mlip md`."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read, write

from mlip import MLIPCalculator


@pytest.fixture
def structure(model_file, tmp_path):
    """A relaxed methanol molecule in a file."""
    from mlip.calculators.relaxation import relax_structure

    atoms = molecule("CH3OH")
    atoms.calc = MLIPCalculator(model_file, dtype="float64")
    assert relax_structure(atoms, fmax=0.05, steps=200).converged
    write(tmp_path / "start.xyz", atoms)
    return tmp_path / "start.xyz"


def test_writes_a_trajectory_and_a_table(run, model_file, structure, tmp_path):
    target = tmp_path / "new" / "run.xyz"
    result = run("md", model_file, structure, "-o", target, "--steps", 40, "--interval", 10, "--timestep", 0.25)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    for fact in ("0.01 ps in 40 steps", "mean temperature", "energy drift", "meV/atom/ps", "ns/day", "run.xyz: 5"):
        assert fact in result.stdout
    frames = read(target, ":")
    assert len(frames) == 5
    np.testing.assert_allclose(frames[0].positions, read(structure).positions, atol=1e-7)
    np.testing.assert_allclose(frames[0].get_momenta().sum(axis=0), 0.0, atol=1e-6)
    assert frames[0].get_temperature() > 50
    totals = [atoms.get_total_energy() for atoms in frames]
    assert np.ptp(totals) < 0.02
    assert frames[-1].get_forces().shape == (6, 3)


def test_velocities_in_the_file_are_kept(run, model_file, structure, tmp_path):
    atoms = read(structure)
    momenta = np.random.default_rng(0).normal(size=(6, 3))
    atoms.set_momenta(momenta)
    write(tmp_path / "moving.xyz", atoms)
    assert run("md", model_file, tmp_path / "moving.xyz", "-o", tmp_path / "run.traj", "--steps", 2).exit_code == 0
    np.testing.assert_allclose(read(tmp_path / "run.traj", 0).get_momenta(), momenta, atol=1e-7)


def test_seed_decides(run, model_file, structure, tmp_path):
    def last(seed: int, ensemble: str) -> np.ndarray:
        target = tmp_path / f"{seed}.traj"
        options = ("--ensemble", ensemble, "--steps", 10, "--seed", seed, "--friction", 0.1)
        result = run("md", model_file, structure, "-o", target, *options)
        assert result.exit_code == 0, result.output
        assert ("energy drift" in result.stdout) == (ensemble == "nve")
        return read(target, -1).positions

    for ensemble in ("nve", "nvt"):
        np.testing.assert_array_equal(last(1, ensemble), last(1, ensemble))
        assert np.abs(last(1, ensemble) - last(2, ensemble)).max() > 1e-4


def test_periodic_structures_have_stress_in_the_trajectory(run, model_file, tmp_path):
    write(tmp_path / "cell.xyz", bulk("C", cubic=True))
    result = run("md", model_file, tmp_path / "cell.xyz", "-o", tmp_path / "run.xyz", "--steps", 2, "--interval", 1)
    assert result.exit_code == 0, result.output
    assert [atoms.get_stress().shape for atoms in read(tmp_path / "run.xyz", ":")] == [(6,)] * 3


@pytest.mark.parametrize("suffix", ["xyz", "traj"])
def test_interrupted_run_keeps_its_frames(run, monkeypatch, model_file, structure, tmp_path, suffix):
    calls = 0
    calculate = MLIPCalculator.calculate

    def interrupted(self, *arguments, **options):
        nonlocal calls
        calls += 1
        if calls > 7:
            raise KeyboardInterrupt
        calculate(self, *arguments, **options)

    monkeypatch.setattr(MLIPCalculator, "calculate", interrupted)
    target = tmp_path / f"run.{suffix}"
    result = run("md", model_file, structure, "-o", target, "--steps", 100, "--interval", 2)
    assert result.exit_code == 130
    assert f"{target}: 4" in result.stderr
    assert "Traceback" not in result.output
    assert len(read(target, ":")) == 4


def test_blow_up_is_one_sentence(run, model_file, tmp_path):
    write(tmp_path / "start.xyz", bulk("C", cubic=True))
    options = ("--steps", 50, "--timestep", 50, "--temperature", 20000, "--interval", 1)
    result = run("md", model_file, tmp_path / "start.xyz", "-o", tmp_path / "run.xyz", *options)
    assert result.exit_code == 2
    sentences = result.stderr.strip().split("\n")
    assert sentences[0].startswith("Frames kept in")
    assert sentences[1].startswith("Error: the simulation blew up at step")
    assert len(sentences) == 2
    assert len(read(tmp_path / "run.xyz", ":")) >= 1


def test_mistakes_cost_no_older_trajectory(fails, model_file, structure, tmp_path):
    old = tmp_path / "old.xyz"
    old.write_text("the old trajectory")
    bad = {
        "unknown": Atoms("CXe", positions=[[0, 0, 0], [0, 0, 2]]),
        "nan": Atoms("CO", positions=[[0, 0, 0], [0, 0, np.nan]]),
        "flat": Atoms("C", cell=[3, 3, 0], pbc=True),
        "spot": Atoms("CO", positions=[[1, 2, 3], [1, 2, 3]]),
    }
    for (name, atoms), fact in zip(bad.items(), ("Xe", "nan", "volume", "atoms 0 and 1"), strict=True):
        write(tmp_path / f"{name}.xyz", atoms)
        assert fact in fails("md", model_file, tmp_path / f"{name}.xyz", "-o", old)
    assert "absent.xyz" in fails("md", model_file, tmp_path / "absent.xyz", "-o", old)
    assert "absent.mlip" in fails("md", tmp_path / "absent.mlip", structure, "-o", old)
    assert "-3" in fails("md", model_file, structure, "-o", old, "--steps", -3)
    assert "the input itself" in fails("md", model_file, old, "-o", old)
    assert "run.pdb" in fails("md", model_file, structure, "-o", tmp_path / "run.pdb")
    assert old.read_text() == "the old trajectory"
    (tmp_path / "garbage.xyz").write_bytes(b"\x80\x81 nothing")
    assert "garbage.xyz" in fails("md", model_file, tmp_path / "garbage.xyz", "-o", old)
