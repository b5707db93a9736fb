"""Radial functions at the knots of a table, at which training evaluates radial networks in place of the edges."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from mlip.nn.mlp import MLP
from mlip.nn.radial import RadialEmbedding
from mlip_kernels.radial_table import KnotGrid, spline_coefficients


@dataclass(frozen=True)
class KnotRadial:
    """What convolutions take in place of the radial functions of every edge.

    Attributes:
        functions: Radial functions at the knots, [knots, functions].
        places: [edges + 2]: lengths of the edges, Å, then where their first coefficient is the table's first, and the
            inverse spacing of the knots.
    """

    functions: Tensor
    places: Tensor

    @classmethod
    def of(cls, embedding: RadialEmbedding, distances: Tensor, intervals: int) -> Self:
        """Knots that part lengths up to the cutoff into so many intervals, and the lengths of edges, [edges]."""
        grid = KnotGrid.covering(embedding.cutoff, intervals)
        # The first of an edge's four splines is centred at the last but one knot before it.
        scale = distances.new_tensor([grid.origin + grid.spacing, 1.0 / grid.spacing])
        return cls(embedding(grid.positions().to(distances)), torch.cat([distances, scale]))

    def coefficients(self, network: MLP) -> Tensor:
        """Those of the cubic splines through the network's values at the knots, [knots, outputs].

        The splines are made of the last hidden layer, which is narrower than the output.
        """
        return network.last(spline_coefficients(network.hidden(self.functions)))
