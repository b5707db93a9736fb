"""What an architecture offers to the potential around it."""

from torch import Tensor, nn

from mlip.nn.elements import ElementGroups
from mlip_kernels.edges import EdgeTopology


class Network(nn.Module):
    """Base of the architectures: maps edges and elements to one number per atom, before scale and shift."""

    def forward(self, vectors: Tensor, edges: EdgeTopology, groups: ElementGroups) -> Tensor:
        """Compute the network's output.

        Args:
            vectors: From receiver to sender, Å, of the model's dtype, [edges, 3].
            edges: Senders and receivers, sorted by receiver.
            groups: Elements of the atoms.

        Returns:
            One number per atom, [nodes].
        """
        raise NotImplementedError
