"""The scripts that make the shipped tables of CP decompositions and print error against rank, and the tables."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from safetensors.numpy import load_file

from mlip.tensor_products import TensorProduct


def imported(repository: Path, name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, repository / "scripts" / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # Dataclasses look their module up.
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def maker(repository: Path) -> ModuleType:
    return imported(repository, "make_cp_tables")


def missed(job: object, arrays: dict[str, np.ndarray]) -> float:
    """Relative error of the decomposition of a job."""
    assert arrays[f"{job.name}.a"].shape[1] == job.rank
    tensor = np.einsum("ir,jr,kr->ijk", *(arrays[f"{job.name}.{letter}"] for letter in "abc"), optimize=True)
    return float(np.linalg.norm(tensor - job.target.tensor) / np.linalg.norm(job.target.tensor))


def test_the_shipped_tables_hold_every_decomposition_and_are_small(maker: ModuleType) -> None:
    size = 0
    for table in ("exact", "truncated"):
        path = maker.FOLDER / f"{table}.safetensors"
        arrays, jobs = load_file(path), [job for job in maker.jobs(4) if job.table == table]
        assert set(arrays) == {f"{job.name}.{letter}" for job in jobs for letter in "abc"}
        errors = [missed(job, arrays) for job in jobs]
        assert max(errors) < 1e-12 if table == "exact" else min(errors) > 1e-3
        # Terms cancel little, so that float32 keeps its precision.
        assert max(np.abs(array).max() for array in arrays.values()) < 4
        size += path.stat().st_size
    assert size < 1_000_000
    degrees = list(maker.RANKS)
    assert degrees == sorted((a, b, c) for c in range(5) for b in range(c + 1) for a in range(max(c - b, 1), b + 1))


def test_tables_are_made(maker: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maker, "STARTS", 3)
    assert maker.main(["--highest-degree", "1", "--output", str(tmp_path)]) == 0
    for job in maker.jobs(1):
        error = missed(job, load_file(tmp_path / f"{job.table}.safetensors"))
        assert error < 1e-12 if job.table == "exact" else error < 0.5


def test_a_rank_that_is_too_low_is_not_called_exact(maker: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maker, "STARTS", 2)
    monkeypatch.setattr(maker, "RANKS", {(1, 1, 1): (5, 5)})
    with pytest.raises(RuntimeError, match=r"none of 2 fits of full\.111 at rank 5 is exact"):
        maker.make(maker.jobs(1)[0])


def test_error_against_rank(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    script = imported(repository, "cp_rank_table")
    monkeypatch.setattr(script, "FRACTIONS", {1: (4 / 7, 1.0)})
    assert script.main(["--l-max", "1", "-o", str(tmp_path / "ranks.json")]) == 0
    rows = json.loads((tmp_path / "ranks.json").read_text())
    assert [(row["rank"], row["exact"]) for row in rows] == [(4, False), (7, False), (8, True)]
    product = TensorProduct("0e+1e", "0e+1e", "0e+1e", backend="cp", weights="none", rank=7)
    assert rows[1]["error"] == product.error
    assert rows[1]["equivariance_error"] == product.equivariance_error()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["| L | rank | error | equivariance error | exact |", "|---|---|---|---|---|"]
    assert [line.split("|")[2].strip() for line in lines[2:]] == ["4", "7", "8"]
    assert lines[-1].endswith("| yes |")
