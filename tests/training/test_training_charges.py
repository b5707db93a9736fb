"""Training with charges: what is learnt, how runs are resumed, and what is refused."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

from mlip import MLIPCalculator
from mlip.errors import DataError, StructureError
from mlip.models import load
from mlip.training.config import TrainingConfig
from mlip.training.run import Run, train

Config = Callable[..., TrainingConfig]
COULOMB = 14.399645351950548
CHARGES = {"H": 0.4, "O": -0.8}

pytestmark = pytest.mark.usefixtures("no_report")


def quiet_train(config: TrainingConfig, **options: Any) -> Run:
    return train(config, console=Console(file=io.StringIO()), **options)


@pytest.fixture(scope="module")
def charged_frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty clusters of H and O whose atoms have the charge of their element and repel each other."""
    rng = np.random.default_rng(3)
    frames = []
    corners = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), -1).reshape(-1, 3)
    for _ in range(40):
        symbols = rng.permutation(list("HHO" * 2))
        atoms = Atoms(symbols, 1.5 * corners[:6] + rng.normal(scale=0.15, size=(6, 3)))
        charges = np.array([CHARGES[symbol] for symbol in symbols])
        vectors = atoms.positions[:, None] - atoms.positions[None]
        r = np.linalg.norm(vectors, axis=2) + np.diag(np.full(6, np.inf))
        repulsion = 20.0 * np.exp(-r / 0.3)
        pulls = (COULOMB * np.outer(charges, charges) / r**2 + repulsion / 0.3) / r
        pulls[np.isnan(pulls)] = 0.0
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=0.5 * (COULOMB * np.outer(charges, charges) / r + repulsion).sum(),
            forces=(pulls[:, :, None] * vectors).sum(axis=1),
            charges=charges,
            dipole=charges @ atoms.positions,
        )
        frames.append(atoms)
    path = tmp_path_factory.mktemp("charged") / "frames.xyz"
    ase.io.write(path, frames)
    return path


def changes(path: Path, kind: str = "predicted", **loss: float) -> dict[str, Any]:
    return {
        "model": {"long_range": {"charges": kind}},
        "data": {"train": str(path), "validation": 0.2},
        "loss": {"energy": 1.0, "forces": 1.0, "stress": 0.0, **loss},
    }


@pytest.mark.parametrize("charges", ["predicted", "equilibrated"])
def test_charges_and_dipoles_are_learnt(config: Config, charged_frames: Path, charges: str) -> None:
    labels = {"charges": 10.0, "dipole": 1.0}
    values = changes(charged_frames, charges, **labels) | {"epochs": 30, "optimizer": {"learning_rate": 0.03}}
    run = quiet_train(config(**values))
    rows = (run.folder.metrics).read_text().splitlines()
    names = rows[0].split(",")
    first, last = (dict(zip(names, map(float, row.split(",")), strict=True)) for row in (rows[1], rows[-1]))
    assert last["charges_rmse"] < 0.2 * first["charges_rmse"]
    assert last["dipole_rmse"] < 0.3 * first["dipole_rmse"]
    assert last["charges_rmse"] < 0.1
    atoms = ase.io.read(charged_frames, "0")
    reference = atoms.get_charges()
    atoms.calc = MLIPCalculator(str(run.folder.model))
    np.testing.assert_allclose(atoms.get_charges(), reference, atol=0.2)


@pytest.mark.parametrize("charges", ["predicted", "equilibrated"])
def test_resumed_run_equals_an_uninterrupted_one(
    config: Config, charged_frames: Path, charges: str, tmp_path: Path
) -> None:
    values = changes(charged_frames, charges, charges=1.0)
    quiet_train(config(**values, epochs=4, output=str(tmp_path / "whole")))
    quiet_train(config(**values, epochs=2, output=str(tmp_path / "parts")))
    quiet_train(config(**values, epochs=4, output=str(tmp_path / "parts")), resume=True)
    whole, parts = (load(tmp_path / name / "model.mlip").state_dict() for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_total_charge_before_correction_is_learnt(config: Config, charged_frames: Path) -> None:
    run = quiet_train(config(**changes(charged_frames, total_charge=10.0), epochs=15))
    rows = run.folder.metrics.read_text().splitlines()
    column = rows[0].split(",").index("total_charge_rmse")
    assert float(rows[-1].split(",")[column]) < 0.5 * float(rows[1].split(",")[column])


def test_missing_labels_are_named(config: Config, frames_file: Path) -> None:
    with pytest.raises(DataError, match="no structure has a label for charges under the key 'charges'"):
        quiet_train(config(**changes(frames_file, charges=1.0)))


@pytest.mark.parametrize("part", ["train", "test"])
def test_structures_without_given_charges_are_named_before_training(
    config: Config, charged_frames: Path, part: str, tmp_path: Path
) -> None:
    frames = ase.io.read(charged_frames, ":")
    for number in (3, 7):
        frames[number].calc.results.pop("charges")
    ase.io.write(tmp_path / "some.xyz", frames)
    whole = [str(charged_frames)]
    files = {"train": whole, "validation": whole} | {part: [str(tmp_path / "some.xyz")]}
    with pytest.raises(DataError, match=r"frames 3, 7 of some\.xyz: there are no charges under the key 'charges'"):
        quiet_train(config(**changes(charged_frames, "fixed") | {"data": files}))


def test_charged_slabs_are_named_before_training(config: Config, charged_frames: Path, tmp_path: Path) -> None:
    frames = ase.io.read(charged_frames, ":")
    frames[6].info["charge"] = -1.0
    frames[6].set_cell([9.0, 9.0, 9.0])
    frames[6].pbc = [True, True, False]
    ase.io.write(tmp_path / "some.xyz", frames)
    with pytest.raises(StructureError, match=r"frame 6 of some\.xyz: the total charge is not zero"):
        quiet_train(config(**changes(tmp_path / "some.xyz")))
