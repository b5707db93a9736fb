"""Evaluating many structures: a stream in, a stream out, in batches filled up to a number of edges."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from mlip.calculators.compiled import evaluate_compiled
from mlip.calculators.loading import compile_where_possible
from mlip.calculators.prediction import StructurePrediction, has_volume, open_boundaries
from mlip.data.graphs import AtomicGraph, build_graph, collate_graphs
from mlip.data.structures import Structure
from mlip.errors import DataError, StructureError, UnknownElementError
from mlip.models import Potential
from mlip.models.compiled import CompiledPotential

# Large enough to keep the cores busy, small enough for a laptop's memory with a model of ordinary size.
DEFAULT_MAX_EDGES = 20_000


def compile_for(
    model: Potential, structures: Iterable[Structure]
) -> tuple[Potential | CompiledPotential, Iterator[Structure]]:
    """The fastest form of a model, and the structures.

    The first structure is read before: what cannot be read costs no compilation, which may take seconds.
    """
    stream = iter(structures)
    first = list(islice(stream, 1))
    compiled = compile_where_possible(model) if first else None
    return compiled or model, chain(first, stream)


def evaluate_structures(
    model: Potential | CompiledPotential,
    structures: Iterable[Structure],
    *,
    max_edges: int = DEFAULT_MAX_EDGES,
    stress: bool = False,
) -> Iterator[StructurePrediction]:
    """Predictions for `structures` in their order, on the model's device, holding one batch of them at a time.

    A batch is filled up to `max_edges` directed edges (and as many atoms); a structure with more is a batch by itself.
    A compiled model takes one structure after another, all threads working on each.

    Raises:
        UnknownElementError: an element that the model does not know.
        StructureError: positions that are not finite, or a periodic cell without volume, or what electrostatics refuse.
        DataError: charges that a model of given charges takes are missing.
    """
    if isinstance(model, CompiledPotential):
        for number, structure in enumerate(structures):
            _check_elements(model, (structure,), number)
            try:
                prediction = evaluate_compiled(model, structure, stress)
            except (StructureError, DataError) as error:
                raise _numbered(error, number) from error
            yield prediction
        return
    done = 0
    for batch in _fill_batches(structures, model.cutoff, max_edges):
        parts, graphs = zip(*batch, strict=True)
        _check_elements(model, parts, done)
        yield from _evaluate_batch(model, parts, graphs, done, stress=stress)
        done += len(parts)


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


def _check_elements(model: Potential | CompiledPotential, structures: tuple[Structure, ...], first: int) -> None:
    """Raise the model's error for an unknown element with the number of the structure that has it."""
    known = [atomic_numbers[symbol] for symbol in model.elements]
    for i, structure in enumerate(structures):
        if not np.isin(structure.numbers, known).all():
            unknown = sorted({chemical_symbols[z] for z in structure.numbers if z not in known})
            raise UnknownElementError(
                f"structure {first + i} (counted from 0) holds {', '.join(unknown)}, which the model was not trained "
                f"for; it knows {', '.join(model.elements)}."
            )


def _numbered(error: StructureError | DataError, number: int) -> StructureError | DataError:
    """The same error with the number of the structure that it is about."""
    return type(error)(f"structure {number} (counted from 0): {error}")


def _evaluate_batch(
    model: Potential,
    structures: tuple[Structure, ...],
    graphs: tuple[AtomicGraph, ...],
    first: int,
    *,
    stress: bool,
) -> Iterator[StructurePrediction]:
    try:
        prediction = model(collate_graphs(graphs).to(model.device), forces=True, stress=stress)
    except (StructureError, DataError) as error:
        if len(structures) == 1:
            raise _numbered(error, first) from error
        # One after another, to find the one that is refused.
        for number, (structure, graph) in enumerate(zip(structures, graphs, strict=True), first):
            yield from _evaluate_batch(model, (structure,), (graph,), number, stress=stress)
        return
    energy = prediction.energy.tolist()
    starts = np.cumsum([len(structure) for structure in structures])[:-1]
    energies = np.split(prediction.energies.cpu().numpy(), starts)
    forces = np.split(prediction.forces.cpu().numpy(), starts)
    stresses = prediction.stress.cpu().numpy() if stress else [None] * len(structures)
    charges: Sequence[NDArray[np.float64] | None] = [None] * len(structures)
    dipoles = charges
    if prediction.charges is not None:
        charges, dipoles = np.split(prediction.charges.cpu().numpy(), starts), prediction.dipole.cpu().numpy()
    for i, structure in enumerate(structures):
        stressed = stresses[i] if stress and has_volume(structure) else None
        dipole = dipoles[i] if open_boundaries(structure) else None
        yield StructurePrediction(structure, energy[i], energies[i], forces[i], stressed, charges[i], dipole)
