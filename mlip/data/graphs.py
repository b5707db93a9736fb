"""Graphs: what a model is evaluated on, and how several become one batch."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mlip.data.labels import PROPERTIES
from mlip.data.neighbours import neighbour_list
from mlip.data.structures import Structure

with warnings.catch_warnings():
    # PyG calls the deprecated `torch.jit.script` while it is imported.
    warnings.filterwarnings("ignore", message="`torch.jit", category=DeprecationWarning)
    from torch_geometric.data import Batch, Data

# What each field has one row of; everything else has one row a structure.
_PER_ATOM = ("positions", "atomic_numbers", "forces", "charges")
_PER_EDGE = ("edge_index", "edge_offsets")


class AtomicGraph(Data):
    """One structure as a graph, batched by `collate_graphs` or by PyG's `Batch.from_data_list`.

    positions [N, 3] Å; atomic_numbers [N] int64; edge_index [2, E] int64, row 0 the sender, row 1 the receiver, by
    which the edges are sorted; edge_offsets [E, 3] Å, such that an edge is
    `positions[sender] + edge_offsets - positions[receiver]`; cell [1, 3, 3] Å; pbc [1, 3] bool;
    total_charge [1] e; energy [1] eV, forces [N, 3] eV/Å, stress [1, 3, 3] eV/Å³, charges [N] e, dipole [1, 3] e Å, NaN
    where there is no label; has_energy, has_forces, has_stress, has_charges, has_dipole [1] bool; weight [1];
    config_type str. All floating-point fields are float64.
    """


def build_graph(structure: Structure, cutoff: float) -> AtomicGraph:
    """Graph of a structure with an edge for every pair nearer than `cutoff` (Å).

    Raises StructureError for positions that are not finite or a periodic cell without volume.
    """
    pairs = neighbour_list(structure.positions, structure.cell, structure.pbc, cutoff)
    count = len(structure.numbers)
    labels = {name: getattr(structure, name) for name in PROPERTIES}
    shapes = {"energy": (1,), "forces": (count, 3), "stress": (1, 3, 3), "charges": (count,), "dipole": (1, 3)}
    return AtomicGraph(
        num_nodes=count,
        positions=_float_tensor(structure.positions),
        atomic_numbers=torch.tensor(structure.numbers, dtype=torch.int64),
        edge_index=torch.from_numpy(np.stack((pairs.senders, pairs.receivers))),
        edge_offsets=torch.from_numpy(pairs.shifts @ structure.cell),
        cell=_float_tensor(structure.cell).reshape(1, 3, 3),
        pbc=torch.tensor(structure.pbc, dtype=torch.bool).reshape(1, 3),
        total_charge=torch.tensor([structure.total_charge], dtype=torch.float64),
        **{name: label_tensor(label, shapes[name]) for name, label in labels.items()},
        **{f"has_{name}": torch.tensor([label is not None]) for name, label in labels.items()},
        weight=torch.tensor([structure.weight], dtype=torch.float64),
        config_type=structure.config_type,
    )


def _float_tensor(array: np.ndarray | float) -> Tensor:
    return torch.tensor(array, dtype=torch.float64)


def label_tensor(array: np.ndarray | float | None, shape: tuple[int, ...]) -> Tensor:
    """A label of this shape, NaN where there is none."""
    if array is None:
        return torch.full(shape, float("nan"), dtype=torch.float64)
    return _float_tensor(array).reshape(shape)


def collate_graphs(graphs: Sequence[AtomicGraph]) -> Batch:
    """The same `Batch` as PyG's `Batch.from_data_list`, by one concatenation a field and several times faster."""
    fields = [graph.to_dict() for graph in graphs]
    atoms = torch.tensor([each["num_nodes"] for each in fields])
    edges = torch.tensor([each["edge_index"].shape[1] for each in fields])
    graph_starts = torch.arange(len(graphs) + 1)
    starts = {name: graph_starts for name in fields[0] if name != "num_nodes"}
    starts |= dict.fromkeys(_PER_ATOM, _starts(atoms)) | dict.fromkeys(_PER_EDGE, _starts(edges))
    first_atoms = starts["positions"][:-1]
    collated = {
        name: torch.cat([each[name] for each in fields], dim=1 if name == "edge_index" else 0)
        for name, first in fields[0].items()
        if isinstance(first, Tensor)
    }
    collated["edge_index"] += torch.repeat_interleave(first_atoms, edges)
    batch = Batch(
        _base_cls=AtomicGraph,
        **collated,
        config_type=[each["config_type"] for each in fields],
        num_nodes=int(starts["positions"][-1]),
        batch=torch.repeat_interleave(graph_starts[:-1], atoms),
        ptr=starts["positions"],
    )
    # What PyG needs to take a batch apart again (`batch[i]`, `batch.to_data_list()`).
    batch._num_graphs = len(graphs)
    batch._num_nodes = atoms.tolist()
    batch._slice_dict = starts
    batch._inc_dict = {name: torch.zeros_like(first_atoms) for name in starts} | {"edge_index": first_atoms}
    return batch


def _starts(counts: Tensor) -> Tensor:
    return torch.cat((counts.new_zeros(1), torch.cumsum(counts, 0)))
