"""Graphs and operands for the tests of convolutions."""

import torch

from mlip_kernels.edges import EdgeTopology

# Degree sequences: no atom, no edge, one edge, lonely atoms between others, equal, uneven.
DEGREES = [[], [0], [0, 0, 0], [1], [0, 1], [2, 2, 2], [0, 5, 1, 0, 3], [1, 9, 2, 0, 17, 4, 1]]


def random_edges(degrees: list[int], seed: int) -> EdgeTopology:
    generator = torch.Generator().manual_seed(seed)
    receivers = torch.repeat_interleave(torch.arange(len(degrees)), torch.tensor(degrees, dtype=torch.int64))
    senders = torch.randint(0, max(len(degrees), 1), (len(receivers),), generator=generator)
    return EdgeTopology(senders, receivers, len(degrees))


def normal(seed: int, *shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
