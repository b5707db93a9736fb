"""Imports point one way, and importing the package changes nothing in the program that does it."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
# Rooms that each room may import, beside itself: those to its right in the design's line
# `cli → training, calculators, benchmarks, interop → models, data → nn, electrostatics → tensor_products → so3`
# and the operations for those that run them. Models are evaluated on the graphs of `data`.
LOW = {"tensor_products", "so3", "mlip_kernels"}
MIDDLE = {"models", "data", "nn", "electrostatics"} | LOW
HIGH = {"training", "calculators", "benchmarks", "interop"}
ALLOWED = {
    "cli": HIGH | MIDDLE,
    # The evaluation in batches, which a run's last table is made with.
    "training": MIDDLE | {"calculators"},
    "calculators": MIDDLE,
    # What users run is what is measured: the calculator, the loss of a training step, and the machine's description.
    "benchmarks": MIDDLE | {"calculators", "training"},
    "interop": MIDDLE,
    "models": {"data", "nn", "electrostatics"} | LOW,
    "data": {"nn", "electrostatics"} | LOW - {"mlip_kernels"},
    "nn": LOW,
    "electrostatics": LOW,
    "testing": {"tensor_products", "so3"},
    "tensor_products": {"so3", "mlip_kernels"},
    "so3": set(),
    "mlip_kernels": set(),
    # The face of the package, loaded on first use, and `python -m mlip`.
    "mlip": {"calculators", "models"},
    "__main__": {"cli"},
    "errors": set(),
    "configuration": set(),
    "_version": set(),
}
# The single modules of the package that every room of it may use, and the package itself, for its version and place.
SHARED = {"errors", "configuration", "_version", "mlip"}
SHARED_BY: dict[str, set[str]] = {"mlip_kernels": set(), "so3": {"errors"}}
MODULES = sorted([*(REPOSITORY / "mlip").rglob("*.py"), *(REPOSITORY / "kernels" / "mlip_kernels").rglob("*.py")])


def room_of(name: str) -> str:
    """The room that a dotted module name belongs to: `mlip.nn.linear` to nn, `mlip` itself to mlip."""
    parts = name.split(".")
    return parts[1] if parts[0] == "mlip" and len(parts) > 1 else parts[0]


def name_of(path: Path) -> str:
    base = REPOSITORY / "kernels" if "mlip_kernels" in path.parts else REPOSITORY
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Full names of what a module imports of ours, within functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import in line {node.lineno}"
            # `from mlip import models` imports a room, `from mlip.nn import MLP` a name of one.
            names = [
                f"{node.module}.{alias.name}" if node.module == "mlip" else str(node.module) for alias in node.names
            ]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ("mlip", "mlip_kernels"))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(name_of(path))
    imported = {room_of(name) for name in imports(path)} - {room}
    allowed = ALLOWED[room] | SHARED_BY.get(room, SHARED)
    assert imported <= allowed, f"{name_of(path)} imports {sorted(imported - allowed)}"


def test_every_room_has_its_place() -> None:
    rooms = {path.parent.name for path in (REPOSITORY / "mlip").glob("*/__init__.py")}
    assert rooms <= set(ALLOWED)
    assert all(allowed <= set(ALLOWED) for allowed in ALLOWED.values())


PROBE = """
import json, os, sys, warnings
before = dict(os.environ), list(warnings.filters)
import {module}
changed = sorted({{name for name, _ in set(os.environ.items()) ^ set(before[0].items())}})
report = {{"environment": changed, "warnings": warnings.filters == before[1]}}
report["torch"] = "torch" in sys.modules
if report["torch"]:
    import torch
    report["dtype"] = str(torch.get_default_dtype())
    report["gradients"] = torch.is_grad_enabled()
    report["deterministic"] = torch.are_deterministic_algorithms_enabled()
    report["threads"] = torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])
print(json.dumps(report))
"""


def probe(module: str) -> dict[str, object]:
    """What importing a module has changed, in an interpreter of its own where a warning is an error."""
    command = [sys.executable, "-W", "error", "-c", PROBE.format(module=module)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert result.returncode == 0, result.stderr
    report: dict[str, object] = json.loads(result.stdout)
    return report


def test_importing_the_package_is_light_and_changes_nothing() -> None:
    assert probe("mlip") == {"environment": [], "warnings": True, "torch": False}


def test_importing_the_models_and_the_calculator_changes_nothing() -> None:
    report = probe("mlip.calculators, mlip.models")
    # Torch's compiler, which torch-geometric imports, notes its own cache there.
    assert set(report.pop("environment")) <= {"TORCHINDUCTOR_CACHE_DIR"}
    report.pop("warnings")
    assert report == {
        "torch": True,
        "dtype": "torch.float32",
        "gradients": True,
        "deterministic": False,
        "threads": True,
    }
