"""The verbs `mlip eval` and `mlip quickstart`."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from omegaconf import OmegaConf
from typer.testing import CliRunner

from mlip.cli.main import app
from mlip.data.reading import read_structures
from mlip.models import build_model, load, save
from mlip.training.evaluation import evaluate

MODEL = {"architecture": "mace", "hidden_irreps": "4x0e", "l_max": 1, "layers": 1, "correlation": 1, "cutoff": 3.0}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that says −500 eV an atom and forces of zero, whatever the structure."""
    energies = {"H": -500.0, "O": -500.0}
    potential = build_model({**MODEL, "elements": ["H", "O"], "reference_energies": energies, "scale": 0.0})
    save(potential, tmp_path / "model.mlip")
    return tmp_path / "model.mlip"


def test_eval_prints_and_writes_the_errors(model: Path, frames_file: Path, tmp_path: Path) -> None:
    arguments = ["eval", str(model), str(frames_file), "--stress", "--json", str(tmp_path / "errors.json")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    errors = json.loads((tmp_path / "errors.json").read_text())
    frames = ase.io.read(frames_file, ":")
    for kind in ("box", "cluster", "all"):
        chosen = [a for a in frames if kind in ("all", a.info["config_type"])]
        energy = 1000 * np.array([a.get_potential_energy() + 500.0 * len(a) for a in chosen])
        forces = 1000 * np.concatenate([a.get_forces().ravel() for a in chosen])
        assert errors[kind]["energy"]["rmse"] == pytest.approx(np.sqrt((energy**2).mean()), rel=1e-9)
        assert errors[kind]["forces"]["rmse"] == pytest.approx(np.sqrt((forces**2).mean()), rel=1e-9)
        assert errors[kind]["forces"]["mae"] == pytest.approx(np.abs(forces).mean(), rel=1e-9)
        assert f"{errors[kind]['forces']['rmse']:.2f}" in result.output
    stress = 1000 * np.concatenate([a.get_stress(voigt=False).ravel() for a in frames if a.pbc.any()])
    assert errors["all"]["stress"]["rmse"] == pytest.approx(np.sqrt((stress**2).mean()), rel=1e-9)


@pytest.mark.parametrize("brought", [False, True])
def test_eval_compares_charges_that_are_predicted(brought: bool, tmp_path: Path) -> None:
    charges = {"H": 0.3, "O": -0.6}
    long_range = {"charges": "fixed", "element_charges": {} if brought else charges}
    save(build_model({**MODEL, "elements": ["H", "O"], "long_range": long_range}), tmp_path / "model.mlip")
    water = molecule("H2O")
    water.info["dipole"] = np.zeros(3)
    water.arrays["charges"] = np.array([-0.4, 0.2, 0.2])
    ase.io.write(tmp_path / "water.xyz", water)
    arguments = ["eval", str(tmp_path / "model.mlip"), str(tmp_path / "water.xyz"), "--json", str(tmp_path / "e.json")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    errors = json.loads((tmp_path / "e.json").read_text())["all"]
    assert ("charges" in errors) != brought
    used = water.arrays["charges"] * (1.0 if brought else 1.5)
    assert errors["dipole"]["rmse"] == pytest.approx(1000 * np.sqrt(((used @ water.positions) ** 2).mean()))
    if not brought:
        assert errors["charges"]["mae"] == pytest.approx(1000 * (0.2 + 0.1 + 0.1) / 3)


def test_eval_without_labels(model: Path, frames_file: Path) -> None:
    keys = ["--key", "energy=E", "--key", "forces=F", "--key", "stress=S"]
    result = CliRunner().invoke(app, ["eval", str(model), str(frames_file), *keys])
    assert result.exit_code == 2
    assert re.match(r"Error: .*frames\.xyz has no labels to compare with.*--key", result.stderr)


def test_eval_of_nothing(model: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["eval", str(model), str(tmp_path / "nowhere.xyz")])
    assert result.exit_code == 2
    assert "nowhere.xyz" in result.stderr


def test_train_mistake_is_one_sentence(settings: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    OmegaConf.save(OmegaConf.create(settings()), tmp_path / "config.yaml")
    result = CliRunner().invoke(app, ["train", str(tmp_path / "config.yaml"), "optimiser.learning_rate=1"])
    assert result.exit_code == 2
    assert re.fullmatch(r"Error: .*optimiser.*optimizer.*\n", result.stderr)


def test_train_resume_and_overwrite_exclude_each_other(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", str(tmp_path / "config.yaml"), "--resume", "--overwrite"])
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr


def test_quickstart_outside_of_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["quickstart"])
    assert result.exit_code == 2
    assert "make quickstart in the folder of the repository" in result.stderr


def test_quickstart_in_short(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames_file: Path
) -> None:
    """All of it works together on a few frames of the sample and one epoch."""
    for name in ("train", "validation", "test"):
        frames = ase.io.read(repository / "data" / f"sample_{name}.xyz", ":")
        kinds = [[a for a in frames if a.info["config_type"] == kind][:2] for kind in ("ethanol", "water")]
        (tmp_path / "data").mkdir(exist_ok=True)
        ase.io.write(tmp_path / "data" / f"sample_{name}.xyz", kinds[0] + kinds[1])
    (tmp_path / "configs").mkdir()
    text = (repository / "configs" / "quickstart.yaml").read_text()
    text = re.sub(r"epochs: \d+", "epochs: 1", text)
    (tmp_path / "configs" / "quickstart.yaml").write_text(text.replace("l_max: 2", "l_max: 1"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mlip.cli.quickstart._STEPS", 5)
    for _ in range(2):  # It may be run again.
        result = CliRunner().invoke(app, ["quickstart"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert "energy drift" in result.output
        assert "sample_test.xyz" in result.output
    assert (tmp_path / "runs" / "quickstart" / "report.html").exists()


@pytest.mark.slow
def test_quickstart_reaches_its_goal(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data", "configs"):
        (tmp_path / name).symlink_to(repository / name)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["quickstart"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    potential = load(tmp_path / "runs" / "quickstart" / "model.mlip")
    errors = evaluate(potential, read_structures("data/sample_test.xyz"), max_edges=5000, stress=False).errors
    assert errors.rmse("forces") <= 40.0
