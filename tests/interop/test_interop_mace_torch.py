"""mace-torch checkpoints imported, against what it computes with them, by `scripts/make_checkpoint_references.py`."""

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from mlip.data.graphs import AtomicGraph, build_graph
from mlip.data.structures import Structure
from mlip.errors import CheckpointError
from mlip.interop import import_checkpoint
from mlip.models import Potential, load, save

FOLDER = Path(__file__).parent / "data"
CASES = [
    ("vectors", "Default"),
    ("unscaled", "Default"),
    ("mixing", "Default"),
    ("repulsion", "cheap"),
    ("repulsion", "dear"),
    ("single", "Default"),
    ("single precision", "cheap"),
    ("single precision", "dear"),
    ("options", "Default"),
]
MOLECULE, CRYSTAL = range(2)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the checkpoints as mace-torch saved them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for path in FOLDER.glob("mace_*.model.xz"):
        (folder / path.stem).write_bytes(lzma.decompress(path.read_bytes()))
    return folder


def checkpoint_of(checkpoints: Path, label: str) -> Path:
    return checkpoints / f"mace_{label.replace(' ', '_')}.model"


@cache
def reference() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Structures and results of mace-torch, and the models' hyper-parameters."""
    with safe_open(FOLDER / "mace.safetensors", framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        return tensors, json.loads(file.metadata()["reference"])["models"]


def graph_of(number: int, cutoff: float) -> AtomicGraph:
    tensors, _ = reference()
    parts = {name: tensors[f"structures/{number}/{name}"].numpy() for name in ("numbers", "positions", "cell", "pbc")}
    return build_graph(Structure(**parts), cutoff)


def results_of(label: str, head: str, number: int) -> dict[str, Tensor]:
    prefix = f"{label}/{head}/{number}/"
    return {key.removeprefix(prefix): each for key, each in reference()[0].items() if key.startswith(prefix)}


def head_argument(label: str, head: str) -> str | None:
    return head if "heads" in reference()[1][label] else None


def assert_computes(model: Potential, label: str, head: str, number: int) -> None:
    """Hold a model's results against mace-torch's, in float64."""
    graph, expected = graph_of(number, model.cutoff), results_of(label, head, number)
    # In a float32 file the coupling tensors are rounded to that, so that they are not quite equivariant.
    exact = reference()[1][label].get("dtype") != "float32"
    close = {"rtol": 1e-10, "atol": 1e-9} if exact else {"rtol": 1e-8, "atol": 1e-8}
    computed = model(graph, stress=True)
    torch.testing.assert_close(computed.energy[0], expected["energy"].squeeze(), **close)
    # Its calculator leaves out the energies of free atoms.
    interactions = computed.energies - model.reference_energies(model.element_indices(graph.atomic_numbers))
    torch.testing.assert_close(interactions, expected["energies"], **close)
    assert computed.forces is not None
    torch.testing.assert_close(computed.forces, expected["forces"], **close)
    if "stress" in expected:
        assert computed.stress is not None
        torch.testing.assert_close(computed.stress[0], expected["stress"], **close)


@pytest.mark.parametrize("number", [MOLECULE, CRYSTAL])
@pytest.mark.parametrize(("label", "head"), CASES)
def test_imported_models_compute_what_mace_torch_computes(
    checkpoints: Path, label: str, head: str, number: int
) -> None:
    model = import_checkpoint(checkpoint_of(checkpoints, label), head=head_argument(label, head))
    assert model.dtype == torch.float64
    assert_computes(model, label, head, number)
