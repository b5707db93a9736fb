"""A neighbour list with a skin, kept between the steps of a simulation (Verlet, Phys. Rev. 159, 98 (1967)).

It is built for cutoff + skin and kept for as long as it provably holds every pair within the cutoff; each step only
filters it by the present distances. So a model sees the pairs of a list built afresh at every step, in the same order,
whatever the skin.

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

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlip.data.graphs import AtomicGraph, label_tensor
from mlip.data.neighbours import neighbour_list
from mlip.data.structures import COINCIDENCE_DISTANCE, Structure


class Skin:
    """Remembers the structure that a neighbour list was built for, and tells for how long the list may be kept.

    Args:
        cutoff: Å.
        width: Of the skin, Å; a wide one is renewed seldom, but has more pairs to filter at each step.

    Attributes:
        reach: Distance up to which the list has to hold pairs, Å.
    """

    def __init__(self, cutoff: float, width: float) -> None:
        self.cutoff = cutoff
        self.reach = cutoff + width
        self._structure: Structure | None = None

    def renew(self, structure: Structure) -> None:
        """Take note that a list is built for a structure, of which a copy is kept.

        Raises:
            StructureError: no atoms, positions that are not finite, a periodic cell without volume, coinciding atoms.
        """
        self._structure = None  # A structure that is refused leaves nothing behind.
        structure.validate("the structure")
        numbers, positions = structure.numbers.copy(), structure.positions.copy()
        self._structure = Structure(numbers, positions, structure.cell.copy(), structure.pbc.copy())

    def holds(self, structure: Structure) -> bool:
        """Whether the list built last has all pairs of a structure (see the module's head)."""
        old = self._structure
        if old is None or not (_same(old.numbers, structure.numbers) and _same(old.pbc, structure.pbc)):
            return False
        if not np.isfinite(structure.positions).all():
            return False
        shrinkage, carried_along = 1.0, old.positions
        if not _same(old.cell, structure.cell):
            if not np.isfinite(structure.cell).all():
                return False
            old_vectors, new_vectors = old.cell[old.pbc], structure.cell[structure.pbc]
            deformation = np.eye(3) + np.linalg.pinv(old_vectors) @ (new_vectors - old_vectors)
            shrinkage = float(np.linalg.svd(deformation, compute_uv=False)[-1])
            carried_along = old.positions @ deformation
        moved = structure.positions - carried_along
        moved -= moved.sum(axis=0) / len(moved)
        moved *= moved
        farthest = math.sqrt(moved.sum(axis=1).max())
        return shrinkage * self.reach - 2.0 * farthest >= self.cutoff


def _same(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Whether two arrays of one type and number of axes are equal bit by bit: of small ones, the fastest comparison."""
    return first.tobytes() == second.tobytes()


class ImageOffsets:
    """Offsets of the senders' images, which change with the cell.

    Args:
        shifts: In cell vectors, int64 [pairs, 3].
        cell: Å, [3, 3].
        values: The offsets in this cell, Å, float64 [pairs, 3]; `follow` writes them anew, in place.
    """

    def __init__(self, shifts: NDArray[np.int64], cell: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        self.values = values
        self._shifts = shifts.astype(np.float64)
        self._cell = cell.copy()

    def follow(self, cell: NDArray[np.float64]) -> bool:
        """Compute the offsets in a cell; returns whether it is another one than before."""
        if _same(cell, self._cell):
            return False
        self._cell = cell.copy()
        np.matmul(self._shifts, cell, out=self.values)
        return True


class SkinGraph:
    """The graph of a structure that changes little from call to call.

    Args:
        cutoff: Å.
        skin: Å.
        device: Where the graph is wanted.

    `builds` counts the neighbour lists built so far.
    """

    def __init__(self, cutoff: float, skin: float, device: torch.device) -> None:
        self.device = device
        self.builds = 0
        self._skin = Skin(cutoff, skin)
        self._graph = AtomicGraph()

    def update(self, structure: Structure) -> AtomicGraph:
        """The graph of `structure` with exactly the edges shorter than the cutoff, sorted by receiver.

        The same object is returned at each call; its tensors are new where they can have changed.

        Raises:
            StructureError: no atoms, positions that are not finite, a periodic cell without volume, coinciding atoms.
        """
        if not self._skin.holds(structure):
            self._build(structure)
        if self._image_offsets.follow(structure.cell):
            self._offsets = self._on_device(self._image_offsets.values)
        positions = self._on_device(structure.positions)
        senders, receivers = self._index
        vectors = positions.index_select(0, senders) - positions.index_select(0, receivers) + self._offsets
        distances = torch.linalg.vector_norm(vectors, dim=1)
        within = torch.nonzero(distances < self._skin.cutoff).squeeze(1)
        if len(within) and float(distances.min()) < COINCIDENCE_DISTANCE:
            structure.validate("the structure")  # Raises, naming the atoms.
        self._graph.positions = positions
        self._graph.total_charge = self._on_device(np.array([structure.total_charge]))
        self._graph.charges = self._charges(structure)
        self._graph.cell = self._on_device(structure.cell).unsqueeze(0)
        self._graph.edge_index = self._index.index_select(1, within)
        self._graph.edge_offsets = self._offsets.index_select(0, within)
        return self._graph

    def _build(self, structure: Structure) -> None:
        self._skin.renew(structure)
        self.builds += 1
        pairs = neighbour_list(structure.positions, structure.cell, structure.pbc, self._skin.reach)
        self._index = self._on_device(np.stack((pairs.senders, pairs.receivers)))  # [2, pairs]
        self._image_offsets = ImageOffsets(pairs.shifts, structure.cell, pairs.shifts @ structure.cell)
        self._offsets = self._on_device(self._image_offsets.values)
        self._graph.num_nodes = len(structure)
        self._graph.atomic_numbers = self._on_device(structure.numbers)
        self._graph.pbc = self._on_device(structure.pbc).unsqueeze(0)

    def _charges(self, structure: Structure) -> Tensor:
        """Those that the structure brings, NaN where it brings none, [atoms]."""
        return label_tensor(structure.charges, (len(structure),)).to(self.device)

    def _on_device(self, values: NDArray[Any]) -> Tensor:
        """A tensor of its own memory, so that it stays as it is."""
        return torch.tensor(values, device=self.device)
