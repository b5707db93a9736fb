"""Which atoms the edges of a graph connect, with the groupings of edges that the operations share."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# Sizes tried for the blocks of `EdgeTopology.blocks`; the largest degree is tried as well.
_BLOCK_SIZES = (4, 6, 8, 12, 16, 24, 32)
# Work of a block beside that of its edges, in edges: its rows of the output are written and summed once more.
_BLOCK_OVERHEAD = 3


@dataclass(frozen=True)
class EdgeBlocks:
    """Edges laid out in blocks of equal size, each block belonging to one receiver.

    Attributes:
        size: Slots in a block.
        receivers: Receiver of each block, [blocks], ascending.
        edges: Edge in each slot, [blocks * size]; None where slots and edges are the same.
        occupied: 1.0 in a slot that holds an edge and 0.0 in an empty one (whose entry in `edges` is then any edge),
            float64 [blocks * size, 1]; None where no slot is empty.
        one_block_per_node: Whether block number b is all of receiver b's edges.
    """

    size: int
    receivers: Tensor
    edges: Tensor | None
    occupied: Tensor | None
    one_block_per_node: bool


@dataclass(frozen=True)
class EdgeTopology:
    """Senders and receivers of the edges of a graph.

    Attributes:
        senders: Atom each edge comes from, int64 [edges].
        receivers: Atom each edge goes to, int64 [edges], ascending.
        num_nodes: Number of atoms.
    """

    senders: Tensor
    receivers: Tensor
    num_nodes: int

    @cached_property
    def starts(self) -> Tensor:
        """First edge of each receiver, and the number of edges, int64 [nodes + 1]."""
        nodes = torch.arange(self.num_nodes + 1, device=self.receivers.device)
        return torch.searchsorted(self.receivers, nodes)

    @cached_property
    def blocks(self) -> EdgeBlocks:
        """Edges in equal blocks, so that sums over neighbours become batched matrix products.

        The block size balances empty slots against the number of blocks; it is found once for all layers of a model.
        """
        device = self.receivers.device
        num_edges = self.receivers.shape[0]
        degrees = torch.bincount(self.receivers, minlength=self.num_nodes)
        size = _best_block_size(degrees)
        blocks_of_node = (degrees + size - 1) // size
        nodes = torch.arange(self.num_nodes, device=device)
        receivers = torch.repeat_interleave(nodes, blocks_of_node)
        num_slots = receivers.shape[0] * size
        one_block_per_node = bool((blocks_of_node == 1).all())
        if num_slots == num_edges:
            return EdgeBlocks(size, receivers, None, None, one_block_per_node)
        first_edge = torch.cumsum(degrees, 0) - degrees
        first_slot = (torch.cumsum(blocks_of_node, 0) - blocks_of_node) * size
        edge_numbers = torch.arange(num_edges, device=device)
        slots = edge_numbers + (first_slot - first_edge)[self.receivers]
        edges = torch.zeros(num_slots, dtype=torch.int64, device=device)
        edges[slots] = edge_numbers
        occupied = torch.zeros(num_slots, 1, dtype=torch.float64, device=device)
        occupied[slots] = 1.0
        return EdgeBlocks(size, receivers, edges, occupied, one_block_per_node)


def _best_block_size(degrees: Tensor) -> int:
    """Block size that needs the least work for these numbers of neighbours, [nodes]."""
    largest = int(degrees.max()) if degrees.numel() else 0
    if largest == 0:
        return 1
    sizes = torch.tensor([*(size for size in _BLOCK_SIZES if size < largest), largest], device=degrees.device)
    blocks = ((degrees + sizes[:, None] - 1) // sizes[:, None]).sum(1)
    return int(sizes[torch.argmin(blocks * (sizes + _BLOCK_OVERHEAD))])
