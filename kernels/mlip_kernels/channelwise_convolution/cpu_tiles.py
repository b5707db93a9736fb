"""Receivers tile by tile: what is noted for a tile's edges stays in the second-level cache."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from torch import Tensor

from mlip_kernels.simd.code import Code, Index, Indices

# Edges of a tile, about.
EDGES_OF_TILE = 512


class Tile:
    """Neighbouring receivers."""

    def __init__(self, starts: Indices, start: Index, stop: Index) -> None:
        self._starts = starts
        self._start = start
        self._stop = stop
        self.first_edge = starts.get(start)
        self.last_edge = starts.get(stop)

    @contextmanager
    def nodes(self, code: Code) -> Iterator[tuple[Index, Index, Index]]:
        """A loop over the receivers: number, first edge, counted from the tile's first, and number of edges."""
        with code.loop(self._start, self._stop) as node:
            first = self._starts.get(node)
            yield node, first - self.first_edge, self._starts.get(node + 1) - first


@contextmanager
def tiles(
    code: Code, starts: Indices, count: Index, size: Index, prepare: Callable[[Index, Index], None]
) -> Iterator[Tile]:
    """A loop over tiles of `size` among `count` receivers, whose first edges are `starts`.

    `prepare` emits what is done first with each edge; it gets the edge, and its number counted from the tile's first.
    """
    with code.loop(0, count, size) as start:
        tile = Tile(starts, start, (start + size).least(count))
        with code.loop(tile.first_edge, tile.last_edge) as edge:
            prepare(edge, edge - tile.first_edge)
        yield tile


def tile_size(starts: Tensor) -> tuple[int, int]:
    """Receivers of a tile, and the most edges that one has."""
    nodes, edges = len(starts) - 1, int(starts[-1])
    size = max(1, EDGES_OF_TILE * nodes // max(edges, 1))
    return size, max(1, int(np.diff(np.append(starts.numpy()[:-1:size], edges)).max(initial=0)))
