"""Neighbour lists by vesin, for any mix of open and periodic directions, in an order that is always the same."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from vesin import NeighborList

from mlip.errors import StructureError

# No crystal has lattice planes this close; a flatter periodic cell has lost a dimension.
_LEAST_CELL_HEIGHT = 0.1  # Å


class NeighbourList(NamedTuple):
    """Directed pairs nearer than the cutoff, both directions present, sorted by receiver, sender and shift.

    senders [E] and receivers [E] int64; shifts [E, 3] int64, in cell vectors: the vector of a pair is
    `positions[sender] + shifts @ cell - positions[receiver]`, with positions as they were given, wrapped or not.
    """

    senders: NDArray[np.int64]
    receivers: NDArray[np.int64]
    shifts: NDArray[np.int64]


def neighbour_list(positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike, cutoff: float) -> NeighbourList:
    """All pairs of atoms, images included, at a distance below `cutoff`.

    positions [N, 3] and cell [3, 3] in Å (rows are cell vectors), pbc [3] bool, cutoff in Å. Cell vectors of open
    directions are ignored, so they may be zero or anything else; cells may be smaller than the cutoff.
    Raises StructureError for positions or a cell that are not finite, or a periodic cell without volume.
    """
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    periodic = np.array(pbc, dtype=bool)
    box = np.array(cell, dtype=np.float64)
    check_geometry(positions, box, periodic, "the structure")
    box[~periodic] = 0.0
    search = NeighborList(cutoff=float(cutoff), full_list=True)
    receivers, senders, shifts = search.compute(points=positions, box=box, periodic=periodic, quantities="ijS")
    receivers, senders, shifts = (array.astype(np.int64) for array in (receivers, senders, shifts))
    order = _order(receivers, senders, shifts, len(positions))
    return NeighbourList(senders[order], receivers[order], shifts[order])


def _order(
    receivers: NDArray[np.int64], senders: NDArray[np.int64], shifts: NDArray[np.int64], atom_count: int
) -> NDArray[np.int64]:
    """Permutation that sorts by receiver, sender and shift; one integer key is sorted faster than five."""
    if len(receivers) == 0:
        return np.zeros(0, dtype=np.int64)
    lowest = shifts.min(axis=0)
    spans = shifts.max(axis=0) - lowest + 1
    key = receivers * atom_count + senders
    for axis in range(3):
        key = key * spans[axis] + (shifts[:, axis] - lowest[axis])
    return np.argsort(key)


def check_geometry(
    positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], where: str
) -> None:
    """Raise StructureError, naming `where`, for arrays of the wrong shape, values that are not finite, or a
    periodic cell without volume."""
    if positions.ndim != 2 or positions.shape[1] != 3 or cell.shape != (3, 3) or pbc.shape != (3,):
        raise StructureError(
            f"{where}: positions, cell and pbc have the shapes {list(positions.shape)}, {list(cell.shape)} and "
            f"{list(pbc.shape)} instead of [N, 3], [3, 3] and [3]"
        )
    if not np.isfinite(positions).all():
        atom = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
        values = ", ".join(f"{value:g}" for value in positions[atom])
        raise StructureError(f"{where}: atom {atom} is at ({values}); give finite positions")
    if not np.isfinite(cell).all():
        values = ", ".join(f"{value:g}" for value in cell.ravel())
        raise StructureError(f"{where}: the cell is ({values}); give finite cell vectors, or none")
    if pbc.any() and _lowest_height(cell[pbc]) < _LEAST_CELL_HEIGHT:
        axes = " and ".join("abc"[axis] for axis in np.flatnonzero(pbc))
        rows = ", ".join("[" + ", ".join(f"{value:g}" for value in vector) + "]" for vector in cell[pbc])
        raise StructureError(
            f"{where}: the structure is periodic along {axes}, but the cell {rows} has no volume there; "
            "give the cell vectors of the periodic directions, or set pbc to False"
        )


def _lowest_height(vectors: NDArray[np.float64]) -> float:
    """Smallest distance between opposite faces of the cell that one to three vectors [k, 3] span, or an upper bound
    of it where the cell is flat."""
    # The rows of R⁻¹, vectorsᵀ = QR, have the lengths of the reciprocal vectors, which are inverse heights.
    triangle = np.linalg.qr(vectors.T, mode="r")
    bound = float(np.abs(np.diag(triangle)).min())
    if bound < _LEAST_CELL_HEIGHT:
        return bound
    return float(1.0 / np.linalg.norm(np.linalg.inv(triangle), axis=1).max())
