"""Frames labelled by a Lennard-Jones potential, and configurations that train on them in a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator

from mlip.configuration import parse_config
from mlip.training.config import TrainingConfig
from mlip.training.report import Report


def make_frame(rng: np.random.Generator, periodic: bool) -> Atoms:
    """Four or five jittered atoms of H and O on a grid, in a box or not, with labels; clusters have no stress."""
    corners = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), -1).reshape(-1, 3)
    count = rng.integers(4, 6)
    positions = 1.2 * corners[:count] + rng.normal(scale=0.08, size=(count, 3))
    atoms = Atoms("HOHOH"[:count], positions, cell=[4.0, 4.2, 4.4] if periodic else None, pbc=periodic)
    atoms.calc = LennardJones(sigma=1.1, epsilon=0.3, rc=3.5, smooth=True)
    results = {"energy": atoms.get_potential_energy() - 500.0 * count, "forces": atoms.get_forces()}
    if periodic:
        results["stress"] = atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info["config_type"] = "box" if periodic else "cluster"
    return atoms


@pytest.fixture(scope="session")
def frames_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty labelled frames, every third of them periodic and with stress."""
    rng = np.random.default_rng(7)
    path = tmp_path_factory.mktemp("frames") / "frames.xyz"
    ase.io.write(path, [make_frame(rng, i % 3 == 0) for i in range(30)])
    return path


@pytest.fixture
def settings(frames_file: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Plain values of a small configuration; arguments replace sections, dictionaries are merged into them."""

    def build(**changes: Any) -> dict[str, Any]:
        values: dict[str, Any] = {
            "model": {
                "architecture": "mace",
                "hidden_irreps": "4x0e+4x1o",
                "l_max": 1,
                "correlation": 2,
                "layers": 1,
                "cutoff": 3.0,
                "radial_hidden": [8],
            },
            "data": {"train": str(frames_file), "validation": 0.2},
            "loss": {"energy": 1.0, "forces": 10.0, "stress": 1.0},
            "batch": {"max_edges": 160},
            "epochs": 3,
            "output": str(tmp_path / "run"),
        }
        for key, value in changes.items():
            values[key] = {**values[key], **value} if isinstance(value, dict) and key in values else value
        return values

    return build


@pytest.fixture
def config(settings: Callable[..., dict[str, Any]]) -> Callable[..., TrainingConfig]:
    """The same as a configuration."""
    return lambda **changes: parse_config(TrainingConfig, settings(**changes), "the test")


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs end without drawing figures, which would take most of their time."""
    monkeypatch.setattr(Report, "write", lambda self, path: None)
