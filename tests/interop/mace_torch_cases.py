"""Structures and results of `scripts/make_checkpoint_references.py`, and models held against them."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from mlip.data.graphs import AtomicGraph, build_graph
from mlip.data.structures import Structure
from mlip.models import Potential

FOLDER = Path(__file__).parent / "data"
MOLECULE, CRYSTAL = range(2)


def checkpoint_of(checkpoints: Path, label: str) -> Path:
    return checkpoints / f"mace_{label.replace(' ', '_')}.model"


@cache
def reference() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Structures and results of mace-torch, and the models' hyper-parameters."""
    with safe_open(FOLDER / "mace.safetensors", framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        return tensors, json.loads(file.metadata()["reference"])["models"]


def structure_parts(number: int) -> dict[str, np.ndarray]:
    """Atomic numbers, positions, cell and periodicity of a structure."""
    tensors, _ = reference()
    return {name: tensors[f"structures/{number}/{name}"].numpy() for name in ("numbers", "positions", "cell", "pbc")}


def graph_of(number: int, cutoff: float) -> AtomicGraph:
    return build_graph(Structure(**structure_parts(number)), cutoff)


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
