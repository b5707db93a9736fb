"""Models and structures for the tests of the potentials: random, small, and the same in every run."""

import random
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from mlip.data.graphs import AtomicGraph, build_graph, collate_graphs
from mlip.data.structures import Structure
from mlip.models import Potential, Prediction, build_model

ELEMENTS = ["H", "C", "O", "Si"]
NUMBERS = np.array([1, 6, 8, 14])
CUTOFF = 3.2
SKEWED_CELL = np.array([[3.9, 0.2, -0.3], [-1.1, 4.2, 0.4], [0.8, -0.9, 3.7]])
ARCHITECTURES = ["mace", "nequip"]


def potential(architecture: str, dtype: str = "float64", **changes: Any) -> Potential:
    """A small model, in evaluation mode."""
    irreps = {"mace": "4x0e+4x1o", "nequip": "4x0e+2x0o+3x1o+2x1e+2x2e"}
    config = {
        "architecture": architecture,
        "elements": ELEMENTS,
        "hidden_irreps": irreps[architecture],
        "l_max": 2,
        "layers": 2,
        "cutoff": CUTOFF,
        "radial_hidden": [8],
        "average_neighbours": 8.0,
        "seed": 1,
    }
    return build_model(config | changes, dtype).eval()


def random_config(seed: int) -> dict[str, Any]:
    """Either architecture: irreps up to degree 3, unequal channels, both parities for nequip."""
    rng = random.Random(seed)
    architecture = rng.choice(ARCHITECTURES)
    irreps = [f"{rng.randint(1, 4)}x0e"]
    for degree in rng.choices(range(4), k=rng.randint(0, 4)):
        parity = rng.choice("eo") if architecture == "nequip" else "eo"[degree % 2]
        irreps.append(f"{rng.randint(1, 3)}x{degree}{parity}")
    config = {
        "architecture": architecture,
        "elements": ELEMENTS,
        "hidden_irreps": "+".join(irreps),
        "l_max": rng.randint(0, 3),
        "layers": rng.randint(1, 3),
        "cutoff": CUTOFF,
        "radial_basis": rng.choice(["bessel", "gaussian"]),
        "radial_functions": rng.randint(1, 8),
        "radial_hidden": rng.choice([[], [8], [8, 8]]),
        "average_neighbours": 8.0,
        "zbl": rng.choice([True, False]),
        "seed": rng.randint(0, 10**6),
    }
    if architecture == "mace":
        config["correlation"] = rng.randint(1, 4)
    else:
        config["self_connection"] = rng.choice(["per_element", "shared"])
        config["solid_harmonics"] = rng.choice([False, True])
        config["cutoff_onset"] = rng.choice([None, 2.0])
    return config


# Drawn from a seed, since hypothesis prefers the simplest of everything and irreps would rarely mix.
model_configs = st.integers(0, 10**6).map(random_config)


def random_structure(seed: int, num_atoms: int, pbc: bool | tuple[bool, bool, bool] = False) -> Structure:
    """Atoms of several elements at least 0.9 Å apart, in a skewed cell where any direction is periodic."""
    rng = np.random.default_rng(seed)
    periodic = np.broadcast_to(np.array(pbc), 3).copy()
    cell = SKEWED_CELL * 1.15 if periodic.any() else np.zeros((3, 3))
    box = cell if periodic.any() else np.eye(3) * (1.3 + 0.9 * num_atoms ** (1 / 3))
    images = np.array(np.meshgrid(*[[-1, 0, 1] if p else [0] for p in periodic])).reshape(3, -1).T @ cell
    positions = np.zeros((0, 3))
    while len(positions) < num_atoms:
        candidate = rng.random(3) @ box
        apart = np.linalg.norm(positions[:, None] + images - candidate, axis=2)
        if (apart > 0.9).all():
            positions = np.concatenate([positions, candidate[None]])
    return Structure(rng.choice(NUMBERS, num_atoms), positions, cell, periodic)


def batch(*structures: Structure, cutoff: float = CUTOFF) -> AtomicGraph:
    return collate_graphs([build_graph(structure, cutoff) for structure in structures])


def evaluate(model: Potential, *structures: Structure, stress: bool = False) -> Prediction:
    """Energies and forces of structures in one batch."""
    prediction: Prediction = model(batch(*structures, cutoff=model.cutoff), stress=stress)
    return prediction


def per_structure(values: torch.Tensor, *structures: Structure) -> list[np.ndarray]:
    """Values of atoms [atoms, ...] by structure."""
    return [part.numpy() for part in values.split([len(structure) for structure in structures])]
