"""Every command and every line of code in the README, run in a folder of its own on data cut short."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from mlip.models import MaceConfig, NequIPConfig
from mlip.training.config import CosineSchedule, PlateauSchedule, TrainingConfig


def code_blocks(readme: str, language: str) -> list[str]:
    """Fenced blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", readme, flags=re.DOTALL)


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """What the README takes as given: train.xyz and test.xyz with the energy under `Energy`, and molecule.xyz."""
    folder = tmp_path_factory.mktemp("readme")
    for name, source, step in (("train.xyz", "sample_train.xyz", 10), ("test.xyz", "sample_test.xyz", 4)):
        frames = ase.io.read(repository / "data" / source, f"::{step}")
        for atoms in frames:
            atoms.info["Energy"] = atoms.get_potential_energy()
            atoms.arrays["forces"] = atoms.get_forces()
            atoms.calc = None
        ase.io.write(folder / name, frames)
    molecule = next(atoms for atoms in frames if not atoms.pbc.any())
    molecule.info.clear()
    ase.io.write(folder / "molecule.xyz", molecule, columns=["symbols", "positions"])
    return folder


def run(script: str, folder: Path) -> str:
    """Run a bash script with this environment's programs, and return what it prints."""
    programs = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


def test_commands_and_code_run_in_the_order_of_the_readme(readme: str, folder: Path, repository: Path) -> None:
    install, own_data, use, swap = code_blocks(readme, "bash")
    calculator, electrostatics, build = code_blocks(readme, "python")

    targets = re.findall(r"^make (\S+)", install, flags=re.MULTILINE)
    assert targets == ["quickstart", "test"]
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=repository, check=True, capture_output=True)

    shortened = own_data.replace("epochs: 30", "epochs: 2")
    assert shortened != own_data
    printed = run(shortened, folder)
    assert "meV/Å" in printed
    assert (folder / "runs/my/report.html").is_file()

    (torchrun,) = re.findall(r"`(torchrun [^`]*)`", readme)
    run(torchrun + " epochs=1 output=runs/two", folder)
    assert (folder / "runs/two/model.mlip").is_file()

    (folder / "calculator.py").write_text(calculator)
    assert "-" in run("python calculator.py", folder)
    assert len(ase.io.read(folder / "molecule.xyz")) == 9
    run(use, folder)
    (folder / "electrostatics.py").write_text(electrostatics)
    assert "chebyshev_tucker" in run("python electrostatics.py", folder)
    assert len(ase.io.read(folder / "predicted.xyz", ":")) == 29
    assert len(ase.io.read(folder / "trajectory.xyz", ":")) == 21

    # The benchmark takes two minutes and is run by tests of its own; the advice is the same with fewer edges.
    benchmark, advise = swap.strip().splitlines()
    assert benchmark.startswith("mlip bench tensor-products --quick ")
    assert "fastest" in run(advise.replace("10000", "200"), folder)
    assert "`model: {architecture: mace, tensor_product: {backend: spherical_grid}}`" in readme
    run("mlip train my.yaml model.tensor_product.backend=spherical_grid epochs=1 output=runs/gaunt", folder)
    (convert,) = re.findall(r"`(mlip convert [^`]*)`", readme)
    (folder / "model.mlip").write_bytes((folder / "runs/gaunt/model.mlip").read_bytes())
    assert "spherical_grid -> gaunt_fourier" in run(convert, folder)

    (folder / "build.py").write_text(build)
    run("python build.py", folder)
    assert (folder / "untrained.mlip").is_file()


def test_interrupted_training_resumes_by_the_command_of_the_readme(readme: str, folder: Path) -> None:
    (resume,) = re.findall(r"`(mlip train my.yaml --resume)`", readme)
    (folder / "my.yaml").write_text(
        "model: {architecture: mace, hidden_irreps: 4x0e, l_max: 1, cutoff: 4.0}\n"
        "data: {train: train.xyz, validation: 0.2, keys: {energy: Energy}}\nepochs: 3\noutput: runs/resumed\n"
    )
    script = (
        "mlip train my.yaml & process=$!\n"
        "until [ -s runs/resumed/last.ckpt ]; do sleep 0.1; done; kill -9 $process || true\n"
        f"wait $process || true\n{resume}"
    )
    run(script, folder)
    rows = (folder / "runs/resumed/metrics.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == [1, 2, 3]


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested mappings."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def defaults(schema: type[BaseModel]) -> dict[str, Any]:
    """Keys of a section with their defaults, as plain values."""
    plain: dict[str, Any] = {}
    for name, field in schema.model_fields.items():
        value = field.get_default(call_default_factory=True)
        plain[name] = value.model_dump() if isinstance(value, BaseModel) else value
    return plain


def test_configuration_reference_names_every_key_with_its_default(readme: str) -> None:
    (reference,) = code_blocks(readme, "yaml")
    documented = yaml.safe_load(reference)

    expected = defaults(TrainingConfig) | {"schedule": defaults(PlateauSchedule)}
    expected["model"] = defaults(MaceConfig)
    expected["data"] = defaults(TrainingConfig.model_fields["data"].annotation)
    known, written = dict(leaves(expected)), dict(leaves(documented))
    assert written.keys() - known.keys() <= {f"model.{key}" for key in defaults(NequIPConfig)}
    assert known.keys() <= written.keys()
    for key, value in known.items():
        if value is not PydanticUndefined:
            assert written[key] == value, key
    assert set(defaults(NequIPConfig)) <= set(documented["model"])
    assert set(defaults(CosineSchedule)) <= set(documented["schedule"])


@pytest.mark.slow
def test_quickstart_reaches_its_accuracy(repository: Path, tmp_path: Path) -> None:
    for name in ("data", "configs"):
        (tmp_path / name).symlink_to(repository / name)
    printed = run("mlip quickstart", tmp_path)
    assert (tmp_path / "runs/quickstart/report.html").is_file()
    (rmse,) = re.findall(r"Errors on sample_test.*?│ all .*?forces\s*│[^│]*│\s*([\d.]+)", printed, flags=re.DOTALL)
    assert float(rmse) <= 40.0
    (drift,) = re.findall(r"energy drift\D*?(-?[\d.e-]+) meV/atom", printed)
    assert abs(float(drift)) < 1.0
