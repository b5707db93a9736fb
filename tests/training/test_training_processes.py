"""Runs as their users start them: torchrun's processes, and Ctrl-C at a terminal."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from typer.testing import CliRunner

from mlip.cli.main import app
from mlip.models import load

Settings = Callable[..., dict[str, Any]]

# One thread each, as in the other tests.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TORCHRUN = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--rdzv-backend", "c10d"]
TORCHRUN += ["--rdzv-endpoint", "localhost:0"]


@pytest.fixture
def write(settings: Settings, tmp_path: Path) -> Callable[..., Path]:
    """Writes a configuration for a run in a folder of the same name."""

    def to_file(name: str, **changes: Any) -> Path:
        path = tmp_path / f"{name}.yaml"
        OmegaConf.save(OmegaConf.create(settings(output=str(tmp_path / name), **changes)), path)
        return path

    return to_file


def run_module(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=180)


def read_rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def test_two_processes_give_the_losses_of_one(write: Callable[..., Path], tmp_path: Path) -> None:
    model = {"layers": 2, "hidden_irreps": "4x0e+4x1o"}
    changes: dict[str, Any] = {"dtype": "float64", "epochs": 3, "model": model}
    single = run_module("mlip", "train", write("single", **changes))
    assert single.returncode == 0, single.stderr
    double = run_module(*TORCHRUN, "-m", "mlip", "train", write("double", **changes))
    assert double.returncode == 0, double.stderr
    rows = [read_rows(tmp_path / name) for name in ("single", "double")]
    assert len(rows[0]) == len(rows[1]) == 3
    for first, second in zip(*rows, strict=True):
        assert first.keys() == second.keys()
        for name in first.keys() - {"seconds"}:
            assert second[name] == pytest.approx(first[name], rel=1e-6, abs=1e-12), name
    # The first process alone prints.
    assert double.stdout.count("epoch") == single.stdout.count("epoch")
    assert double.stdout.count("Errors on validation") == 1
    weights = [load(tmp_path / name / "model.mlip").state_dict() for name in ("single", "double")]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-6, atol=1e-9)


def test_ctrl_c_saves_and_says_how_to_go_on(write: Callable[..., Path], tmp_path: Path) -> None:
    config = write("run", epochs=100_000)
    command = [sys.executable, "-m", "mlip", "train", str(config), "patience=100000"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    checkpoint = tmp_path / "run" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert f"mlip train {config} patience=100000 --resume" in output
    state = torch.load(checkpoint, weights_only=True)
    done = len(state["callbacks"]["History"]["rows"])
    assert done >= 1

    resumed = CliRunner().invoke(app, ["train", str(config), f"epochs={done + 1}", "--resume"])
    assert resumed.exit_code == 0, resumed.output
    assert len(read_rows(tmp_path / "run")) == done + 1
