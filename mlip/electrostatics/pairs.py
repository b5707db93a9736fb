"""The short-range part: pairs of charges nearer than the cutoff."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlip.electrostatics.constants import COULOMB_CONSTANT
from mlip.electrostatics.inputs import ChargedStructures, coincidence
from mlip_kernels.coulomb_pairs import Screening, screened_energies, screened_potential
from mlip_kernels.pair_list import find_pairs

_LEAST_DISTANCE = 1e-6  # Å
SKIN = 0.3  # Å
_MOST_KEPT = 8
_MOST_PAIRS_KEPT = 1 << 24


@dataclass(frozen=True)
class PairList:
    """Directed pairs, both directions present, sorted by receiver.

    Attributes:
        senders: int64 [pairs].
        starts: First pair of each receiver, and the number of pairs, int64 [N + 1].
        shifts: In cell vectors, int32 [pairs, 3]; None where nothing is periodic.
        offsets: The shifts in space, Å [pairs, 3].
        counts: Pairs of each structure, int64 [structures].
    """

    senders: Tensor
    starts: Tensor
    shifts: Tensor | None
    offsets: Tensor
    counts: Tensor


def pair_list(structures: ChargedStructures, cutoff: float) -> PairList:
    """All pairs of charges of one structure, images included, nearer than the cutoff in Å.

    Raises:
        StructureError: two charges are at the same place.
    """
    positions = structures.positions.detach()
    places = positions.double().cpu().numpy()
    cells = structures.cells.detach().double().cpu().numpy()
    parts = []
    for number, pbc in enumerate(structures.pbc):
        part = structures.structure(number)
        found = find_pairs(places[part], cells[number], np.array(pbc), cutoff)
        if found.shortest < _LEAST_DISTANCE:
            raise coincidence(*(part.start + each for each in found.nearest))
        parts.append(found)
    begins = np.cumsum([0, *(len(found.senders) for found in parts)])
    starts = [found.starts[:-1] + begin for found, begin in zip(parts, begins[:-1], strict=True)]
    senders = [found.senders + begin for found, begin in zip(parts, structures.bounds, strict=False)]
    periodic = any(any(pbc) for pbc in structures.pbc)
    device = positions.device
    return PairList(
        senders=_joined(senders).to(device),
        starts=_joined([*starts, begins[-1:]]).to(device),
        shifts=_joined([found.shifts for found in parts]).to(device) if periodic else None,
        offsets=_joined([found.offsets for found in parts]).to(positions),
        counts=torch.from_numpy(np.diff(begins)).to(device),
    )


def _joined(arrays: list[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))


@dataclass(frozen=True)
class ShortRangeSum:
    """Screened charges of structures over their pairs.

    Attributes:
        structures: The structures.
        pairs: All that count.
        screening: The potential of a unit charge.
    """

    structures: ChargedStructures
    pairs: PairList
    screening: Screening

    @cached_property
    def sums(self) -> tuple[Tensor, Tensor]:
        """Energies, eV [structures, channels], and potentials, V [N, channels]."""
        structures, pairs = self.structures, self.pairs
        energies, potentials = screened_energies(
            structures.positions,
            self._offsets,
            structures.charges,
            self.screening,
            pairs.senders,
            pairs.starts,
            structures.starts,
        )
        return COULOMB_CONSTANT * energies, COULOMB_CONSTANT * potentials

    def potentials_of(self, charges: Tensor) -> Tensor:
        """Potentials, V [N, channels], of other charges at the same places."""
        pairs = self.pairs
        return COULOMB_CONSTANT * screened_potential(
            self.structures.positions, self._offsets, charges, self.screening, pairs.senders, pairs.starts
        )

    @cached_property
    def _offsets(self) -> Tensor:
        cells, pairs = self.structures.cells, self.pairs
        if cells.requires_grad and pairs.shifts is not None:
            return _in_space(pairs.shifts.to(cells), cells, pairs.counts)
        return pairs.offsets.to(cells)


def _in_space(shifts: Tensor, cells: Tensor, counts: Tensor) -> Tensor:
    """Shifts in cell vectors [pairs, 3] as vectors in Å, the first so many of the first structure, and so on."""
    if len(cells) == 1:
        return shifts @ cells[0]
    structures = torch.repeat_interleave(torch.arange(len(cells), device=counts.device), counts)
    columns = zip(shifts.split(1, dim=1), cells.unbind(1), strict=True)
    first, second, third = (amount * vectors.index_select(0, structures) for amount, vectors in columns)
    return first + second + third


class KeptPairs:
    """Pair lists that serve again while nothing has moved far.

    They reach farther than the cutoff by a skin, and serve until charges or cell have moved so far that a pair from
    beyond it may have come nearer than the cutoff. Pairs beyond the cutoff add nothing.
    """

    def __init__(self) -> None:
        self._lists: OrderedDict[Hashable, _KeptList] = OrderedDict()

    def pairs(self, structures: ChargedStructures, cutoff: float) -> PairList:
        """A list that holds all pairs nearer than the cutoff in Å."""
        positions, cells = structures.positions.detach(), structures.cells.detach()
        key = (structures.pbc, structures.bounds, cutoff, positions.device)
        kept = self._lists.get(key)
        if kept is not None and kept.serves(positions, cells, structures.batch, cutoff):
            return kept.in_cells(cells)
        pairs = pair_list(structures, cutoff + SKIN)
        self._lists[key] = _KeptList(pairs, positions.clone(), cells.clone())
        self._lists.move_to_end(key)
        while len(self._lists) > 1 and (len(self._lists) > _MOST_KEPT or self._pairs_kept() > _MOST_PAIRS_KEPT):
            self._lists.popitem(last=False)
        return pairs

    def _pairs_kept(self) -> int:
        return sum(len(kept.pairs.senders) for kept in self._lists.values())


@dataclass(frozen=True)
class _KeptList:
    """A list, and the positions [N, 3] and cells [structures, 3, 3] that it was made for."""

    pairs: PairList
    positions: Tensor
    cells: Tensor

    def serves(self, positions: Tensor, cells: Tensor, batch: Tensor, cutoff: float) -> bool:
        """Whether no pair can have come nearer than the cutoff that is not in the list.

        With the strain η of the cell, and charges that moved by δ at most besides, a pair at the distance r is now at
        least at (1 − η) r − 2δ.
        """
        if torch.equal(cells, self.cells):
            return 2 * _longest(positions - self.positions) <= SKIN
        # What is perpendicular to all cell vectors stays as it is.
        strains = torch.linalg.pinv(self.cells) @ (cells - self.cells)
        moved = positions - self.positions - (self.positions[:, None] @ strains[batch])[:, 0]
        strain = float(strains.square().sum((1, 2)).max().sqrt())
        return 2 * _longest(moved) + strain * (cutoff + SKIN) <= SKIN

    def in_cells(self, cells: Tensor) -> PairList:
        """The list with the offsets that it has in other cells."""
        if self.pairs.shifts is None or torch.equal(cells, self.cells):
            return self.pairs
        offsets = _in_space(self.pairs.shifts.to(cells), cells, self.pairs.counts)
        return replace(self.pairs, offsets=offsets)


def _longest(vectors: Tensor) -> float:
    return float(vectors.square().sum(1).max().sqrt()) if len(vectors) else 0.0
