"""What the tests of the verbs share: a small model's file, and a way to run the command in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mlip import save
from mlip.cli.main import app
from mlip.models import build_model


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of H, C and O, with ZBL so that nothing collapses."""
    config = {"architecture": "mace", "elements": ["H", "C", "O"], "hidden_irreps": "4x0e+4x1o", "l_max": 1}
    small = {"layers": 1, "correlation": 2, "cutoff": 3.5, "radial_hidden": [8], "scale": 0.3, "zbl": True}
    path = tmp_path_factory.mktemp("model") / "model.mlip"
    save(build_model({**config, **small}), path, {"data": "tests [none]", "epochs": 3, "learning_rate": 0.01})
    return path


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run `mlip` with arguments, converted to text."""
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def fails(run: Callable[..., Result]) -> Callable[..., str]:
    """Run `mlip`, expect one sentence and exit code 2, and give the sentence."""

    def check(*arguments: object) -> str:
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
        assert result.stdout == ""
        return result.stderr

    return check
