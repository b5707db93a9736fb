"""A data set of graphs for PyTorch: graphs are kept in memory while they fit, and built when asked for otherwise."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mlip.data.graphs import AtomicGraph, build_graph
from mlip.data.labels import DEFAULT_KEYS, PROPERTIES, LabelKeys, Property
from mlip.data.reading import key_hint
from mlip.data.structures import Structure
from mlip.errors import DataError

# Graphs beyond this size are built anew each time they are asked for, which costs about 0.1 ms for a molecule.
_KEPT_BYTES = 2**30


class GraphDataset(Dataset[AtomicGraph]):
    """Graphs of a sequence of structures (a list, a `StructureStore`) at a cutoff in Å.

    Every neighbour list is built once at construction, for the edge counts that batches are filled by.
    Attributes: `cutoff`; `edge_counts` [n] and `num_atoms` [n], int64; `label_counts`, the number of structures that
    have each label. Raises StructureError for a structure without a neighbour list.
    """

    def __init__(self, structures: Sequence[Structure], cutoff: float, kept_bytes: int = _KEPT_BYTES) -> None:
        self.cutoff = cutoff
        self._structures = structures
        self._indices: Sequence[int] = range(len(structures))
        self._graphs: list[AtomicGraph] | None = []
        counts = []
        size = 0
        for structure in structures:
            graph = build_graph(structure, cutoff)
            counts.append((graph.edge_index.shape[1], len(structure), *(graph[f"has_{name}"] for name in PROPERTIES)))
            if self._graphs is not None:
                self._graphs.append(graph)
                size += sum(value.nbytes for value in graph.to_dict().values() if isinstance(value, Tensor))
                if size > kept_bytes:
                    self._graphs = None
        self._counts = torch.tensor(counts, dtype=torch.int64).reshape(-1, 2 + len(PROPERTIES))

    @property
    def edge_counts(self) -> Tensor:
        """Number of edges of each structure [n]."""
        return self._counts[:, 0]

    @property
    def num_atoms(self) -> Tensor:
        """Number of atoms of each structure [n]."""
        return self._counts[:, 1]

    @property
    def label_counts(self) -> dict[Property, int]:
        """How many structures have each label."""
        return dict(zip(PROPERTIES, self._counts[:, 2:].sum(dim=0).tolist(), strict=True))

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> AtomicGraph:
        position = self._indices[index]
        if self._graphs is not None:
            return self._graphs[position]
        return build_graph(self._structures[position], self.cutoff)

    def structures(self) -> Iterator[Structure]:
        """The structures that the graphs are made of, one at a time."""
        if isinstance(self._indices, range):
            return iter(self._structures)  # a store reads blocks then
        return (self._structures[position] for position in self._indices)

    def subset(self, indices: Iterable[int]) -> Self:
        """The data set of some of the structures, sharing their graphs with this one."""
        chosen = [int(index) for index in indices]
        part = type(self).__new__(type(self))
        part.__dict__ = {**self.__dict__, "_indices": [self._indices[index] for index in chosen]}
        part._counts = self._counts[chosen]
        return part


def require_labels(
    labels: GraphDataset | Mapping[Property, int],
    properties: Iterable[Property],
    where: str | Path,
    keys: LabelKeys = DEFAULT_KEYS,
) -> None:
    """Raise DataError where not one structure has a label that is asked for.

    `labels` is a data set, or the number of structures that have each label. `where` names the data in the error; if
    it is the path of a file, the error says which keys that file has instead.
    """
    counts = labels if isinstance(labels, Mapping) else labels.label_counts
    for name in properties:
        if counts.get(name, 0) == 0:
            hint = key_hint(where, name, keys, "data.keys.") if Path(where).is_file() else ""
            remedy = hint or "add the labels, or set the weight of that loss to 0"
            raise DataError(f"{where}: no structure has a label for {name} under the key '{keys[name]}'; {remedy}")
