"""What the documentation of charges and of electrostatics shows is so: every configuration, command and session."""

import doctest
import re
import shlex
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml
from ase.build import molecule
from typer.testing import CliRunner

from mlip.cli.main import app
from mlip.models import load, parse_model_config
from mlip.models.config import LARGEST_WIDTH
from mlip.training.config import LossConfig
from mlip.training.report import Report


def code_blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def run_script(script: str) -> str:
    """Run the files and `mlip` commands of a script in this process, which spares imports; returns what is printed."""
    here_document = r"cat > (\S+) <<'END'\n(.*?)END\n"
    for name, content in re.findall(here_document, script, flags=re.DOTALL):
        Path(name).write_text(content)
    printed = ""
    for line in re.sub(here_document, "", script, flags=re.DOTALL).strip().splitlines():
        program, *arguments = shlex.split(line)
        assert program == "mlip", line
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{line}\n{result.output}"
        assert "Warning" not in result.stderr
        printed += result.stdout
    return printed


@pytest.fixture
def text(repository: Path) -> str:
    return (repository / "docs" / "long_range.md").read_text()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with what the documentation takes as given: train.xyz, ions.xyz and structure.xyz."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frames = [molecule(name, info={"charge": charge}) for name, charge in (("H2O", 0), ("OH", -1), ("H2O", 1)) * 4]
    for atoms in frames:
        atoms.rattle(0.05, rng=rng)
        atoms.info["energy"] = rng.normal()
        atoms.arrays["forces"] = rng.normal(size=(len(atoms), 3))
        atoms.arrays.pop("initial_magmoms", None)
    ase.io.write("train.xyz", frames)
    ions = molecule("NaCl")
    ions.arrays["charges"] = np.array([1.0, -1.0])
    ase.io.write("ions.xyz", ions)
    ase.io.write("structure.xyz", frames[0])
    return tmp_path


def test_the_sessions_print_what_they_show(text: str, folder: Path) -> None:
    session = doctest.DocTestParser().get_doctest(text, {}, "docs/long_range.md", None, 0)
    results = doctest.DocTestRunner().run(session)
    assert results.attempted > 15
    assert results.failed == 0


def test_the_configuration_is_one(text: str) -> None:
    (block,) = code_blocks(text, "yaml")
    config = parse_model_config(yaml.safe_load(block)["model"])
    assert config.long_range is not None
    assert f"`tolerance`, {config.long_range.tolerance:.0e}".replace("e-0", "e-") in text
    assert LARGEST_WIDTH == 1 / 6


def test_the_commands_run(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Report, "write", lambda self, path: None)  # Figures would take most of the time.
    (script,) = code_blocks(text, "bash")
    shortened = script.replace("epochs: 50", "epochs: 1")
    assert shortened != script
    assert "charges predicted" in run_script(shortened)
    model = load(folder / "runs/charged/model.mlip")
    assert model.config.long_range is not None
    predicted = ase.io.read(folder / "predicted.xyz", ":")
    assert [round(atoms.get_charges().sum(), 6) for atoms in predicted] == [0.0, -1.0, 1.0] * 4


def test_every_kind_and_every_term_of_the_loss_is_described(text: str) -> None:
    for name in ("predicted", "equilibrated", "fixed", "charges", "dipole", "total_charge"):
        assert f"| `{name}` |" in text
    assert {"charges", "dipole", "total_charge"} <= LossConfig.model_fields.keys()


def test_the_commands_of_electrostatics_run(repository: Path, folder: Path) -> None:
    (script,) = code_blocks((repository / "docs" / "electrostatics.md").read_text(), "bash")
    printed = run_script(script)
    assert "chebyshev_tucker" in printed
    assert "direct" in printed
