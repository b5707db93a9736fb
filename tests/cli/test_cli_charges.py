"""The verbs with models that have charges: files that bring charges are read, and what is written can be read again."""

from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from typer.testing import Result

from mlip import save
from mlip.models import build_model


@pytest.fixture(scope="module", params=["predicted", "fixed"])
def charged_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model; one of fixed charges takes those of the file."""
    path = tmp_path_factory.mktemp("charges") / "model.mlip"
    config = {"architecture": "nequip", "elements": ["H", "O"], "hidden_irreps": "4x0e+4x1o", "l_max": 1}
    small = {"layers": 1, "cutoff": 3.5, "radial_hidden": [8], "scale": 0.3, "zbl": True}
    save(build_model({**config, **small, "long_range": {"charges": request.param}}), path)
    return path


@pytest.fixture
def water(tmp_path: Path) -> Path:
    """A molecule with charges of its atoms."""
    atoms = molecule("H2O")
    atoms.arrays["charges"] = np.array([-0.8, 0.4, 0.4])
    path = tmp_path / "water.xyz"
    ase.io.write(path, atoms)
    return path


@pytest.mark.parametrize("suffix", [".xyz", ".traj"])
def test_dynamics_goes_on_from_what_it_wrote(
    run: Callable[..., Result], charged_model: Path, water: Path, tmp_path: Path, suffix: str
) -> None:
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    for source, target in ((water, first), (first, second)):
        result = run("md", charged_model, source, "--temperature", 100, "--steps", 2, "--interval", 1, "-o", target)
        assert result.exit_code == 0, result.output
        frames = ase.io.read(target, ":")
        assert len(frames) == 3
        assert all(abs(frame.calc.results["charges"].sum()) < 1e-6 for frame in frames)


def test_relaxed_structures_have_charges(
    run: Callable[..., Result], charged_model: Path, water: Path, tmp_path: Path
) -> None:
    result = run("relax", charged_model, water, "--fmax", 100, "-o", tmp_path / "relaxed.xyz")
    assert result.exit_code == 0, result.output
    assert "charges" in ase.io.read(tmp_path / "relaxed.xyz").calc.results


def test_predictions_have_charges(run: Callable[..., Result], charged_model: Path, water: Path, tmp_path: Path) -> None:
    result = run("predict", charged_model, water, "-o", tmp_path / "predicted.xyz")
    assert result.exit_code == 0, result.output
    assert abs(ase.io.read(tmp_path / "predicted.xyz").calc.results["charges"].sum()) < 1e-6


def test_wrong_total_charges_name_the_file(
    fails: Callable[..., str], charged_model: Path, water: Path, tmp_path: Path
) -> None:
    atoms = ase.io.read(water)
    atoms.info["charge"] = "positive"
    ase.io.write(tmp_path / "wrong.xyz", atoms)
    sentence = fails("md", charged_model, tmp_path / "wrong.xyz", "-o", tmp_path / "trajectory.xyz")
    assert f"{tmp_path / 'wrong.xyz'}: the total charge 'charge' is 'positive'" in sentence.replace("\n", "")
