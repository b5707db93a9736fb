"""Where the numbers of an inference program lie: its arguments, and the weights joined in one array."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlip_kernels.simd.code import Code, Index, Indices, Reals, Wides

# Integers, then addresses of arrays: of integers, of double-precision numbers, of numbers of the program's type.
ARGUMENTS = (
    "atoms", "degree", "tile_rows", "scratch_size", "edge_scratch_size",
    "starts", "senders", "elements", "tile_starts", "task_tiles", "group_starts", "groups", "kept", "kept_senders",
    "rows",
    "positions", "offsets", "forces", "virials", "nearest",
    "weights", "energies", "further", "of_further",
    "distances", "directions", "harmonics", "edge_sums", "scratch", "edge_scratch",
)  # fmt: skip


class Arguments:
    """Arguments of a program by name; arrays that layers keep have names of their own, after the common ones."""

    def __init__(self, given: Indices, atom_arrays: list[str]) -> None:
        self._given = given
        self._places = {name: number for number, name in enumerate([*ARGUMENTS, *atom_arrays])}

    def count(self, name: str) -> Index:
        """An integer."""
        return self._given.get(self._places[name])

    def indices(self, name: str) -> Indices:
        """An array of integers."""
        return self._given.indices(self._places[name])

    def reals(self, name: str) -> Reals:
        """An array of numbers of the program's type."""
        return self._given.reals(self._places[name])

    def wides(self, name: str) -> Wides:
        """An array of double-precision numbers."""
        return self._given.wides(self._places[name])


@dataclass
class Weights:
    """Arrays of constants joined to one, each at an offset that is a multiple of the lanes."""

    lanes: int
    _parts: list[NDArray[np.float64]] = field(default_factory=list)
    _size: int = 0

    def add(self, values: NDArray[np.float64]) -> int:
        """Append an array; returns its offset."""
        offset = self._size
        flat = np.ascontiguousarray(values, dtype=np.float64).ravel()
        padding = -len(flat) % self.lanes
        self._parts.append(np.concatenate([flat, np.zeros(padding)]))
        self._size += len(flat) + padding
        return offset

    def joined(self) -> NDArray[np.float64]:
        """All of them."""
        return np.concatenate([*self._parts, np.zeros(self.lanes)])


@dataclass(frozen=True)
class Tile:
    """The atoms that a task works on at a time.

    Attributes:
        number: Of the tile.
        first: First atom.
        rows: Number of atoms.
    """

    number: Index
    first: Index
    rows: Index


@dataclass(frozen=True)
class Space:
    """What the code of a phase has at hand: arguments, the weights, and the scratch memory of its task."""

    code: Code
    arguments: Arguments
    task: Index
    tasks: Index

    @property
    def weights(self) -> Reals:
        """All constants."""
        return self.arguments.reals("weights")

    @property
    def scratch(self) -> Reals:
        """Scratch numbers of the task."""
        return self.arguments.reals("scratch").at(self.task * self.arguments.count("scratch_size"))
