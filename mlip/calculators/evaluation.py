"""Evaluating many structures: a stream in, a stream out, in batches filled up to a number of edges."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlip.data.graphs import AtomicGraph, build_graph, collate_graphs
from mlip.data.structures import Structure
from mlip.models import Potential

# Large enough to keep the cores busy, small enough for a laptop's memory with a model of ordinary size.
DEFAULT_MAX_EDGES = 20_000
# Three vectors that lie in one plane but for rounding span less.
_LEAST_VOLUME = 1e-6  # Å³


class StructurePrediction(NamedTuple):
    """What a model says about one structure: eV, eV/Å, eV/Å³."""

    structure: Structure
    energy: float
    energies: NDArray[np.float64]  # [N]
    forces: NDArray[np.float64]  # [N, 3]
    stress: NDArray[np.float64] | None  # [3, 3]; None if not asked for, or without a periodic cell that has a volume


def evaluate_structures(
    model: Potential, structures: Iterable[Structure], *, max_edges: int = DEFAULT_MAX_EDGES, stress: bool = False
) -> Iterator[StructurePrediction]:
    """Predictions for `structures` in their order, on the model's device, holding one batch of them at a time.

    A batch is filled up to `max_edges` directed edges (and as many atoms); a structure with more is a batch by itself.

    Raises:
        UnknownElementError: an element that the model does not know.
        StructureError: positions that are not finite, or a periodic cell without volume.
    """
    for batch in _fill_batches(structures, model.cutoff, max_edges):
        yield from _evaluate_batch(model, *zip(*batch, strict=True), stress=stress)


def has_volume(structure: Structure) -> bool:
    """Whether a stress is defined: the structure is periodic and its three cell vectors span a volume."""
    return bool(structure.pbc.any()) and abs(np.linalg.det(structure.cell)) > _LEAST_VOLUME


def _fill_batches(
    structures: Iterable[Structure], cutoff: float, max_edges: int
) -> Iterator[list[tuple[Structure, AtomicGraph]]]:
    batch: list[tuple[Structure, AtomicGraph]] = []
    edges = atoms = 0
    for structure in structures:
        graph = build_graph(structure, cutoff)
        edges += graph.edge_index.shape[1]
        atoms += len(structure)
        if batch and max(edges, atoms) > max_edges:
            yield batch
            batch, edges, atoms = [], graph.edge_index.shape[1], len(structure)
        batch.append((structure, graph))
    if batch:
        yield batch


def _evaluate_batch(
    model: Potential,
    structures: tuple[Structure, ...],
    graphs: tuple[AtomicGraph, ...],
    *,
    stress: bool,
) -> Iterator[StructurePrediction]:
    prediction = model(collate_graphs(graphs).to(model.device), forces=True, stress=stress)
    energy = prediction.energy.tolist()
    starts = np.cumsum([len(structure) for structure in structures])[:-1]
    energies = np.split(prediction.energies.cpu().numpy(), starts)
    forces = np.split(prediction.forces.cpu().numpy(), starts)
    stresses = prediction.stress.cpu().numpy() if stress else [None] * len(structures)
    for i, structure in enumerate(structures):
        stressed = stresses[i] if stress and has_volume(structure) else None
        yield StructurePrediction(structure, energy[i], energies[i], forces[i], stressed)
