"""What the solver is given, checked and brought to one form."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mlip.errors import StructureError

Periodicity: TypeAlias = tuple[bool, bool, bool]

OPEN: Periodicity = (False, False, False)
# No crystal has lattice planes this close; a flatter periodic cell has lost a dimension.
_LEAST_CELL_HEIGHT = 0.1  # Å
# Atoms nearer than this are one atom written twice.
_LEAST_DISTANCE = 1e-6  # Å


@dataclass(frozen=True)
class ChargedStructures:
    """Structures of a batch, one after the other.

    Attributes:
        positions: Å [N, 3].
        charges: e [N, channels].
        cells: Cell vectors in rows, Å [structures, 3, 3]; rows of open directions are zero.
        pbc: Which directions of each structure are periodic.
        batch: Structure of each charge, int64 [N], ascending.
        bounds: First charge of each structure, and N.
        excluded_pairs: Pairs of charges that do not see each other, int64 [pairs, 2].
        has_channels: Whether charges came as [N, channels] and not as [N].
    """

    positions: Tensor
    charges: Tensor
    cells: Tensor
    pbc: tuple[Periodicity, ...]
    batch: Tensor
    bounds: tuple[int, ...]
    excluded_pairs: Tensor
    has_channels: bool

    @property
    def count(self) -> int:
        """Number of structures."""
        return len(self.pbc)

    @cached_property
    def starts(self) -> Tensor:
        """`bounds` as int64 [structures + 1] beside the positions."""
        return torch.tensor(self.bounds, dtype=torch.int64, device=self.positions.device)

    def structure(self, number: int) -> slice:
        """The charges of a structure."""
        return slice(self.bounds[number], self.bounds[number + 1])

    def detached(self) -> "ChargedStructures":
        """A copy that later changes of the arguments do not reach."""
        tensors = {name: getattr(self, name).detach().clone() for name in ("positions", "charges", "cells")}
        return replace(self, **tensors)

    def subset(self, numbers: list[int]) -> "ChargedStructures":
        """Some of the structures, without their excluded pairs."""
        if numbers == list(range(self.count)):
            return self
        atoms = self.atoms(numbers)
        bounds = [0]
        for number in numbers:
            bounds.append(bounds[-1] + self.bounds[number + 1] - self.bounds[number])
        lengths = torch.tensor(bounds).diff().to(self.batch)
        return ChargedStructures(
            positions=self.positions[atoms],
            charges=self.charges[atoms],
            cells=self.cells[numbers],
            pbc=tuple(self.pbc[number] for number in numbers),
            batch=torch.repeat_interleave(torch.arange(len(numbers), device=self.batch.device), lengths),
            bounds=tuple(bounds),
            excluded_pairs=self.excluded_pairs[:0],
            has_channels=self.has_channels,
        )

    def atoms(self, numbers: list[int]) -> Tensor:
        """The charges of some structures, int64."""
        parts = [torch.arange(self.bounds[number], self.bounds[number + 1]) for number in numbers]
        return torch.cat(parts).to(self.batch.device)

    def sum(self, values: Tensor) -> Tensor:
        """Sums over the charges of each structure, [N, channels] to [structures, channels]."""
        if self.count == 1:
            return values.sum(0, keepdim=True)
        return values.new_zeros(self.count, values.shape[1]).index_add(0, self.batch, values)

    def shaped(self, values: Tensor) -> Tensor:
        """Values [..., channels] as the user's charges were: without channels if those had none."""
        return values if self.has_channels else values.squeeze(-1)


def read_inputs(
    positions: Tensor, charges: Tensor, cell: Any, pbc: Any, batch: Tensor | None, excluded_pairs: Tensor | None
) -> ChargedStructures:
    """Check the arguments of `CoulombSolver.__call__`.

    Raises:
        StructureError: see there.
    """
    _check_arrays(positions, charges)
    cells = None
    if cell is not None:
        values = cell if isinstance(cell, Tensor) else np.asarray(cell, dtype=np.float64)  # a cell of ASE too
        cells = torch.as_tensor(values, dtype=positions.dtype, device=positions.device)
    counts = _counts(positions, batch, 1 if cells is None or cells.ndim < 3 else cells.shape[0])
    structures = len(counts)
    periodicity = _periodicity(pbc, cells is not None, structures)
    cells = _cells(cells, periodicity, positions, structures)
    bounds = [0]
    for count in counts:
        bounds.append(bounds[-1] + count)
    if batch is None:
        batch = torch.zeros(positions.shape[0], dtype=torch.int64, device=positions.device)
    return ChargedStructures(
        positions=positions,
        charges=(charges if charges.ndim == 2 else charges[:, None]).to(positions),
        cells=cells,
        pbc=periodicity,
        batch=batch,
        bounds=tuple(bounds),
        excluded_pairs=_pairs(excluded_pairs, batch),
        has_channels=charges.ndim == 2,
    )


def _check_arrays(positions: Tensor, charges: Tensor) -> None:
    for name, values in (("Positions", positions), ("Charges", charges)):
        if not isinstance(values, Tensor):
            raise StructureError(f"{name} are of the type {type(values).__name__}: give tensors, by torch.tensor.")
    if positions.ndim != 2 or positions.shape[1] != 3 or not positions.is_floating_point():
        raise StructureError(
            f"Positions have the shape {list(positions.shape)} and the type {positions.dtype}: give real numbers "
            "[N, 3]."
        )
    if charges.ndim not in (1, 2) or charges.shape[0] != positions.shape[0]:
        raise StructureError(
            f"Charges have the shape {list(charges.shape)} for {positions.shape[0]} positions: give one charge, or one "
            "row of channels, for each."
        )
    for name, values in (("Position", positions), ("Charge", charges)):
        rows = values.detach() if values.ndim == 2 else values.detach()[:, None]
        if not bool(torch.isfinite(rows).all()):
            number = int((~torch.isfinite(rows).all(1)).nonzero()[0])
            text = ", ".join(f"{value:g}" for value in rows[number].tolist())
            raise StructureError(f"{name} {number} is ({text}): give finite numbers.")


def _counts(positions: Tensor, batch: Tensor | None, least: int) -> list[int]:
    """Number of charges in each structure."""
    if batch is None:
        if least != 1:
            raise StructureError(f"There are {least} cells and no batch: say which structure each charge belongs to.")
        return [positions.shape[0]]
    if batch.shape != positions.shape[:1] or batch.dtype != torch.int64:
        raise StructureError(
            f"The batch has the shape {list(batch.shape)} and the type {batch.dtype}: give the structure of each of "
            f"{positions.shape[0]} charges as int64."
        )
    if bool((batch[1:] < batch[:-1]).any()) or (batch.numel() and int(batch[0]) < 0):
        raise StructureError("The batch does not ascend from 0: put the charges of each structure next to each other.")
    return torch.bincount(batch, minlength=least).tolist()


def _periodicity(pbc: Any, has_cells: bool, structures: int) -> tuple[Periodicity, ...]:
    """Of each structure; without `pbc`, a cell makes all directions periodic, as no cell makes all open."""
    if pbc is None:
        return ((has_cells,) * 3,) * structures
    flags = torch.as_tensor(pbc, dtype=torch.bool).cpu()
    if flags.shape not in ((), (3,), (structures, 3)):
        raise StructureError(f"pbc has the shape {list(flags.shape)}: give three booleans, or three per structure.")
    rows = flags.expand(structures, 3).tolist()
    if not has_cells and any(any(row) for row in rows):
        raise StructureError("pbc asks for periodic directions and there is no cell: give the cell, or pbc=False.")
    return tuple((bool(a), bool(b), bool(c)) for a, b, c in rows)


def _cells(cells: Tensor | None, pbc: tuple[Periodicity, ...], positions: Tensor, structures: int) -> Tensor:
    if cells is None:
        return positions.new_zeros(structures, 3, 3)
    if cells.shape not in ((3, 3), (structures, 3, 3)):
        raise StructureError(
            f"The cell has the shape {list(cells.shape)} for {structures} structures: give [3, 3] or "
            "[structures, 3, 3]."
        )
    cells = cells.expand(structures, 3, 3)
    values = cells.detach().double().tolist()
    for number, periodic in enumerate(pbc):
        if any(periodic):
            _check_cell(values[number], periodic, structure_name(number, structures))
    # What stands in the rows of open directions, perhaps no number at all, must not count.
    used = torch.tensor(pbc, device=cells.device)[:, :, None]
    return torch.where(used, cells, torch.zeros_like(cells))


def structure_name(number: int, count: int) -> str:
    """What errors call one of so many structures."""
    return "The structure" if count == 1 else f"Structure {number}"


def _check_cell(cell: list[list[float]], periodic: Periodicity, name: str) -> None:
    """Refuse periodic cell vectors that are not finite or span no length, area or volume."""
    vectors = [vector for vector, flag in zip(cell, periodic, strict=True) if flag]
    if _lowest_height(tuple(map(tuple, vectors))) < _LEAST_CELL_HEIGHT:
        axes = " and ".join("abc"[axis] for axis in range(3) if periodic[axis])
        rows = ", ".join("[" + ", ".join(f"{value:g}" for value in row) + "]" for row in vectors)
        raise StructureError(
            f"{name} is periodic along {axes}, and its cell {rows} is singular there: give the cell "
            "vectors of the periodic directions, or set pbc to False."
        )


@lru_cache(maxsize=256)
def _lowest_height(vectors: tuple[tuple[float, ...], ...]) -> float:
    """Smallest distance between opposite faces of the cell that one to three vectors span, Å; 0 if it is none."""
    matrix = np.array(vectors)
    if not np.isfinite(matrix).all() or (np.linalg.norm(matrix, axis=1) < _LEAST_CELL_HEIGHT).any():
        return 0.0
    singular_values = np.linalg.svd(matrix, compute_uv=False)
    if singular_values[-1] <= 1e-8 * singular_values[0]:
        return 0.0
    # The columns of the pseudoinverse are reciprocal vectors, whose lengths are inverse heights.
    return float(1 / np.linalg.norm(np.linalg.pinv(matrix), axis=0).max())


def _pairs(pairs: Tensor | None, batch: Tensor) -> Tensor:
    if pairs is None:
        return torch.empty(0, 2, dtype=torch.int64, device=batch.device)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype != torch.int64:
        raise StructureError(
            f"Excluded pairs have the shape {list(pairs.shape)} and the type {pairs.dtype}: give int64 [pairs, 2]."
        )
    if pairs.numel() == 0:
        return pairs
    if int(pairs.min()) < 0 or int(pairs.max()) >= batch.shape[0]:
        raise StructureError(
            f"Excluded pairs name charges {int(pairs.min())} to {int(pairs.max())}, of 0 to {batch.shape[0] - 1}."
        )
    bad = (pairs[:, 0] == pairs[:, 1]) | (batch[pairs[:, 0]] != batch[pairs[:, 1]])
    if bool(bad.any()):
        first, second = pairs[bad][0].tolist()
        raise StructureError(f"The excluded pair ({first}, {second}) is not one of two charges of one structure.")
    return torch.unique(pairs.sort(1).values, dim=0)


def check_distances(structures: ChargedStructures) -> None:
    """Refuse charges of one structure at one place.

    Such charges have one projection on any direction too. On a random one hardly any others do, so that sorting finds
    them without comparing all pairs.
    """
    positions = structures.positions.detach().double()
    if positions.shape[0] < 2:
        return
    direction = positions.new_tensor([0.5377, 0.6913, 0.4829])
    keys = positions @ direction
    if np.diff(np.sort(keys.cpu().numpy())).min() >= _LEAST_DISTANCE:
        return
    order = torch.argsort(keys)
    order = order[torch.argsort(structures.batch[order], stable=True)] if structures.count > 1 else order
    close = (keys[order[1:]] - keys[order[:-1]]).abs() < _LEAST_DISTANCE
    first, second = order[:-1][close], order[1:][close]
    same = (positions[first] - positions[second]).norm(dim=1) < _LEAST_DISTANCE
    same &= structures.batch[first] == structures.batch[second]
    if bool(same.any()):
        raise coincidence(int(first[same][0]), int(second[same][0]))


def coincidence(first: int, second: int) -> StructureError:
    """The error for two charges at one place."""
    first, second = sorted((first, second))
    return StructureError(
        f"Charges {first} and {second} are at the same place, where their energy is infinite: remove one or move it."
    )


def text_of(pbc: Sequence[bool]) -> str:
    """`a, b` for a structure that is periodic along its first two cell vectors."""
    return ", ".join(name for name, periodic in zip("abc", pbc, strict=True) if periodic) or "none"
