"""Batches that are filled up to a number of edges, since edges and not structures are what time and memory go to."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from mlip.errors import ConfigError


class EdgeBatchSampler(Sampler[list[int]]):
    """Lists of indices whose structures have `max_edges` edges together at most, the same for a seed and an epoch.

    A structure that has more edges than that is a batch of its own. With several processes each gets its share
    `batch[rank::world_size]` of every global batch, so that they all see the same number of batches. A global batch
    is what one process would see, unless that has fewer structures than there are processes: then it is filled
    beyond `max_edges`, and a last one too small is joined to the one before it. Shares differ in size, so losses have
    to be normalised by the counts of the global batch.

    `max_edges` is the limit of the global batch. Raises ConfigError for a limit that is not positive or a data set
    smaller than the number of processes.
    """

    def __init__(
        self,
        edge_counts: Sequence[int] | NDArray[np.int64] | Tensor,
        max_edges: int,
        shuffle: bool,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if max_edges < 1:
            raise ConfigError(f"max_edges is {max_edges}; give a positive number of edges per batch")
        self.edge_counts = torch.as_tensor(edge_counts, dtype=torch.int64)
        if len(self.edge_counts) < world_size:
            raise ConfigError(
                f"{len(self.edge_counts)} structures cannot be shared by {world_size} processes; "
                "use fewer processes or more data"
            )
        self.max_edges = max_edges
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Order the structures anew for an epoch; the number of batches may change with it."""
        count = len(self.edge_counts)
        if self.shuffle:
            generator = torch.Generator().manual_seed(_mix(self.seed, epoch))
            order = torch.randperm(count, generator=generator).tolist()
        else:
            order = list(range(count))
        self._batches = self._fill(order)

    def _fill(self, order: list[int]) -> list[list[int]]:
        edge_counts = self.edge_counts.tolist()
        batches: list[list[int]] = []
        batch: list[int] = []
        edges = 0
        for index in order:
            if len(batch) >= self.world_size and edges + edge_counts[index] > self.max_edges:
                batches.append(batch)
                batch, edges = [], 0
            batch.append(index)
            edges += edge_counts[index]
        if batches and len(batch) < self.world_size:
            batches[-1].extend(batch)
        elif batch:
            batches.append(batch)
        return batches

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches:
            yield batch[self.rank :: self.world_size]

    def __len__(self) -> int:
        return len(self._batches)


def _mix(seed: int, epoch: int) -> int:
    """One seed for a pair of numbers, so that the epochs of seed 1 are not those of seed 0 shifted by one."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
