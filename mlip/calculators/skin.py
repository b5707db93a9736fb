"""A graph with a skin, kept between the steps of a simulation (Verlet, Phys. Rev. 159, 98 (1967)).

Its neighbour list is built for cutoff + skin and kept for as long as it provably holds every pair within the cutoff;
each step only filters it by the present distances. So a model sees the pairs of a list built afresh at every step, in
the same order, whatever the skin.

When a list is safe: let P0, P be the periodic cell vectors (rows) at the build and now, and F = 1 + P0⁺(P − P0) with
the pseudo-inverse P0⁺, the smallest deformation with P0 F = P, which is the identity while the cell stays as it was.
A pair's vector was d0 = r0_j − r0_i + S P0 and is now d = d0 F + u_j − u_i, where u = r − r0 F is how far an atom moved
apart from that deformation. With σ the smallest singular value of F,

    |d| ≥ σ |d0| − 2 max|u − mean(u)|,

the mean being free because only differences of u matter. A pair left out had |d0| ≥ cutoff + skin, so it is still
beyond the cutoff as long as

    σ (cutoff + skin) − 2 max|u − mean(u)| ≥ cutoff.

In a fixed cell this is the familiar "no atom moved more than half the skin"; a drifting molecule or a breathing cell
costs no rebuild.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlip.data.graphs import AtomicGraph
from mlip.data.neighbours import neighbour_list
from mlip.data.structures import COINCIDENCE_DISTANCE, Structure


class _PairList:
    """The pairs within cutoff + skin, and the structure they were found in."""

    def __init__(self, structure: Structure, cutoff: float, device: torch.device) -> None:
        pairs = neighbour_list(structure.positions, structure.cell, structure.pbc, cutoff)
        self.structure = structure
        self.index = torch.as_tensor(np.stack((pairs.senders, pairs.receivers)), device=device)  # [2, pairs]
        self._shifts = torch.as_tensor(pairs.shifts, dtype=torch.float64, device=device)  # [pairs, 3]
        self._cell = np.full((3, 3), np.nan)
        self._offsets = self._shifts

    def offsets(self, cell: NDArray[np.float64]) -> Tensor:
        """Image offsets of the senders in a cell, [pairs, 3] Å; computed anew only when the cell changed."""
        if not np.array_equal(cell, self._cell):
            self._cell = cell
            self._offsets = self._shifts @ torch.as_tensor(cell, device=self._shifts.device)
        return self._offsets


class SkinGraph:
    """The graph of a structure that changes little from call to call.

    Args:
        cutoff: Å.
        skin: Å; a wide one is rebuilt seldom, but has more pairs to filter at each step.
        device: Where the graph is wanted.

    `builds` counts the neighbour lists built so far.
    """

    def __init__(self, cutoff: float, skin: float, device: torch.device) -> None:
        self.cutoff = cutoff
        self.skin = skin
        self.device = device
        self.builds = 0
        self._pairs: _PairList | None = None
        self._graph = AtomicGraph()

    def update(self, structure: Structure) -> AtomicGraph:
        """The graph of `structure` with exactly the edges shorter than the cutoff, sorted by receiver.

        The same object is returned at each call; its tensors are new where they can have changed.

        Raises:
            StructureError: no atoms, positions that are not finite, a periodic cell without volume, coinciding atoms.
        """
        if self._pairs is None or not self._is_safe(self._pairs.structure, structure):
            self._pairs = None  # A structure that is refused leaves no list behind.
            self._pairs = self._build(structure)
        positions = torch.as_tensor(structure.positions, device=self.device)
        offsets = self._pairs.offsets(structure.cell)
        senders, receivers = self._pairs.index
        vectors = positions.index_select(0, senders) - positions.index_select(0, receivers) + offsets
        distances = torch.linalg.vector_norm(vectors, dim=1)
        within = torch.nonzero(distances < self.cutoff).squeeze(1)
        if len(within) and float(distances.min()) < COINCIDENCE_DISTANCE:
            structure.validate("the structure")  # Raises, naming the atoms.
        self._graph.positions = positions
        self._graph.cell = torch.as_tensor(structure.cell, device=self.device).unsqueeze(0)
        self._graph.edge_index = self._pairs.index.index_select(1, within)
        self._graph.edge_offsets = offsets.index_select(0, within)
        return self._graph

    def _build(self, structure: Structure) -> _PairList:
        structure.validate("the structure")
        self.builds += 1
        self._graph.num_nodes = len(structure)
        self._graph.atomic_numbers = torch.as_tensor(structure.numbers, device=self.device)
        self._graph.pbc = torch.as_tensor(structure.pbc, device=self.device).unsqueeze(0)
        return _PairList(structure, self.cutoff + self.skin, self.device)

    def _is_safe(self, old: Structure, new: Structure) -> bool:
        """Whether the list built for `old` holds all pairs of `new` (see the module's head)."""
        if not (np.array_equal(old.numbers, new.numbers) and np.array_equal(old.pbc, new.pbc)):
            return False
        if not (np.isfinite(new.positions).all() and np.isfinite(new.cell).all()):
            return False
        shrinkage, carried_along = 1.0, old.positions
        if not np.array_equal(old.cell, new.cell):
            old_vectors, new_vectors = old.cell[old.pbc], new.cell[new.pbc]
            deformation = np.eye(3) + np.linalg.pinv(old_vectors) @ (new_vectors - old_vectors)
            shrinkage = float(np.linalg.svd(deformation, compute_uv=False)[-1])
            carried_along = old.positions @ deformation
        moved = new.positions - carried_along
        moved -= moved.mean(axis=0)
        farthest = float(np.sqrt(np.einsum("ij,ij->i", moved, moved).max()))
        return shrinkage * (self.cutoff + self.skin) - 2.0 * farthest >= self.cutoff
