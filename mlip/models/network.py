"""What an architecture offers to the potential around it."""

from torch import Tensor, nn

from mlip.models.config import ArchitectureConfig
from mlip.nn.elements import ElementGroups
from mlip.nn.radial import RadialEmbedding
from mlip.nn.radial_knots import KnotRadial
from mlip_kernels.edges import EdgeTopology


def number_of_outputs(config: ArchitectureConfig) -> int:
    """Columns of what a network reads out: the energy's, and what the model of the charges takes."""
    charges = config.long_range.charges if config.long_range else "fixed"
    return {"fixed": 1, "predicted": 2, "equilibrated": 3}[charges]


class Network(nn.Module):
    """Base of the architectures: maps edges and elements to one number per atom, before scale and shift.

    Beside it there may be further outputs, read out from the same invariant features, for charges.
    """

    radial: RadialEmbedding
    # Intervals of the radial tables that stand in for radial networks in training mode; None for the networks.
    radial_knots: int | None = None

    @property
    def takes_knots(self) -> bool:
        """Whether all radial networks can be tabulated: convolutions by kernels, of functions of the length alone."""
        raise NotImplementedError

    def edge_radial(self, lengths: Tensor) -> Tensor | KnotRadial:
        """Radial functions of edges of these lengths, Å [edges]; in training, if so wished, at the knots of a table."""
        if self.training and self.radial_knots is not None and self.takes_knots:
            return KnotRadial.of(self.radial, lengths, self.radial_knots)
        functions: Tensor = self.radial(lengths)
        return functions

    def forward(self, vectors: Tensor, edges: EdgeTopology, groups: ElementGroups) -> Tensor:
        """Compute the network's outputs.

        Args:
            vectors: From receiver to sender, Å, of the model's dtype, [edges, 3].
            edges: Senders and receivers, sorted by receiver.
            groups: Elements of the atoms.

        Returns:
            [nodes, 1 + further outputs]; the first column is that of the energy.
        """
        raise NotImplementedError
