"""Loaders: batches of graphs in the order of an edge-filling sampler."""

import torch
from torch.utils.data import DataLoader

from mlip.data.dataset import GraphDataset
from mlip.data.graphs import Batch, collate_graphs
from mlip.data.samplers import EdgeBatchSampler


def build_loader(
    dataset: GraphDataset,
    max_edges: int,
    shuffle: bool,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
) -> "DataLoader[Batch]":
    """A loader of PyG batches with at most `max_edges` edges; `loader.batch_sampler.set_epoch(n)` reshuffles.

    `workers` processes build the batches, 0 meaning this one; see `EdgeBatchSampler` for `rank` and `world_size`.
    """
    sampler = EdgeBatchSampler(dataset.edge_counts, max_edges, shuffle, seed, rank, world_size)
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate_graphs,
        num_workers=workers,
        persistent_workers=workers > 0,
        # The loader draws a seed for its workers; from a generator of its own it leaves the global one alone.
        generator=torch.Generator().manual_seed(seed),
    )
