"""A learned number of neighbours, in place of their mean number in the training data."""

import torch
from torch import Tensor, nn

from mlip.nn.mlp import MLP
from mlip_kernels.edges import EdgeTopology
from mlip_kernels.segment_sum import segment_sum


class NeighbourDensity(nn.Module):
    """`1 + Σ_j tanh(f(r_ij)²)`, f linear in the radial functions: what sums over neighbours are divided by.

    It counts near neighbours as one and those at the cutoff as none, so that sums stay alike at any density: the
    normalisation of mace-torch's `RealAgnosticDensityInteractionBlock`.

    Args:
        functions: Number of radial functions.
    """

    def __init__(self, functions: int) -> None:
        super().__init__()
        self.linear = MLP([functions, 1])

    def forward(self, radial: Tensor, edges: EdgeTopology) -> Tensor:
        """Density around each atom from the radial functions of its edges [edges, functions], as [nodes, 1]."""
        counts = torch.tanh(self.linear(radial) ** 2)
        return 1.0 + segment_sum(counts, edges.receivers, edges.num_nodes)
