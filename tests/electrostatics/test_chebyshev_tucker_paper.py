"""Errors and ranks of the method of Benner et al. 2025 (arXiv 2503.01696) on the authors' data.

What is expected is what a plain reduced HOSVD of the interpolated canonical vectors gives, calculated apart from this
package; read and evaluated by the script that prints the tables of `results/chebyshev_tucker.md`.
"""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def script(repository: Path) -> Iterator[ModuleType]:
    name = "reproduce_chebyshev_tucker"
    spec = importlib.util.spec_from_file_location(name, repository / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for the module that defines them
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    if not (shared_data / "chebtuck").is_dir():
        pytest.skip(f"no authors' data at {shared_data / 'chebtuck'}")
    return shared_data / "chebtuck"


def middle_error(tensor: object, field: object) -> float:
    """Largest error on the middle slice."""
    grid, middle = tensor.grid, tensor.middle  # type: ignore[attr-defined]
    value = field.on_grid(grid, grid, grid[[middle]])[:, :, 0]  # type: ignore[attr-defined]
    return float((value - tensor.slab(middle)).abs().max())  # type: ignore[attr-defined]


# Degree, largest error expected of it, and ranks that the tolerance of 1e-7 may take.
BIOMOLECULE = [(33, 2.2e-2, (33, 31, 31)), (65, 9.5e-5, (40, 40, 47)), (129, 8.6e-7, (40, 40, 47)),
               (257, 7.5e-7, (40, 40, 47))]  # fmt: skip


@pytest.mark.parametrize(("degree", "expected", "ranks"), BIOMOLECULE)
def test_biomolecule(
    script: ModuleType, folder: Path, degree: int, expected: float, ranks: tuple[int, int, int]
) -> None:
    tensor = script.read_biomolecule(folder)
    field = tensor.field(degree)
    assert expected / 2 < middle_error(tensor, field) <= expected
    assert all(ours <= theirs for ours, theirs in zip(field.ranks, ranks, strict=True))
    if degree >= 129:  # the ranks of the authors' data itself
        assert field.ranks == ranks


def test_lattice(script: ModuleType, folder: Path) -> None:
    tensor = script.read_lattice(folder)
    field = tensor.field(129, 1e-9)
    assert field.ranks == (18, 18, 12)
    assert middle_error(tensor, field) <= 1.6e-6
    assert tensor.field(129).ranks == (15, 15, 10)


@pytest.mark.parametrize(("size", "expected", "rank"), [(256, 6e-7, 9), (512, 6.2e-7, 11), (1024, 1.5e-7, 12)])
def test_newton_kernel(script: ModuleType, folder: Path, size: int, expected: float, rank: int) -> None:
    tensor = script.read_newton(folder, size)
    field = tensor.field(129, 1e-9)
    assert max(field.ranks) <= rank
    assert middle_error(tensor, field) <= expected


def test_the_command_says_where_data_is_missing(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["reproduce", str(tmp_path)])
    with pytest.raises(SystemExit):
        script.main()
    assert "give the folder of the authors' data" in capsys.readouterr().err
