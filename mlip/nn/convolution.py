"""Convolution of atom features with the harmonics of the edges, weighted by a radial network."""

import math
from collections.abc import Sequence

from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

from mlip.nn.layout import Block, blocks, natural_irreps
from mlip.nn.mlp import MLP
from mlip.so3 import wigner_3j
from mlip_kernels import channelwise_convolution
from mlip_kernels.channelwise_convolution import ConvolutionPath, ConvolutionTable
from mlip_kernels.edges import EdgeTopology


class Convolution(nn.Module):
    """Sum over neighbours of the Clebsch-Gordan products of their features with the edge's harmonics.

    Each path (l1, l2, l3) and channel has a weight that a radial network computes from the edge's length. The paths of
    one output irrep stay apart, as further channels. Harmonics are component-normalised and the coupling is
    `sqrt(2*l3+1)` times the Wigner 3j tensor, as in MACE and NequIP.

    Args:
        irreps_in: Canonical irreps of the atom features.
        l_max: Highest degree of the harmonics.
        targets: Irreps wanted in the output.
        radial_widths: Numbers of radial functions and of units in each hidden layer of the radial network.
        implementation: A key of `mlip_kernels.channelwise_convolution.IMPLEMENTATIONS`.
        parity: That of harmonics of degree 1: -1, or 1 where only rotations count.

    Attributes:
        irreps_out: Irreps of the output that occur, their channels those of all paths together.
    """

    def __init__(
        self,
        irreps_in: Irreps,
        l_max: int,
        targets: Irreps,
        radial_widths: Sequence[int],
        implementation: str = "blocked",
        parity: int = -1,
    ) -> None:
        super().__init__()
        self.table, self.irreps_out = convolution_table(irreps_in, l_max, {irrep for _, irrep in targets}, parity)
        self.radial_network = MLP([*radial_widths, self.table.weight_dim])
        self.operation = channelwise_convolution.IMPLEMENTATIONS[implementation](self.table)

    def forward(self, features: Tensor, harmonics: Tensor, radial: Tensor, edges: EdgeTopology) -> Tensor:
        """Convolve features [nodes, irreps_in.dim] with harmonics [edges, (l_max+1)^2] and radial [edges, functions].

        Returns:
            [nodes, irreps_out.dim], channel-last per irrep.
        """
        convolved: Tensor = self.operation(features, harmonics, self.radial_network(radial), edges)
        return convolved


def convolution_table(
    irreps_in: Irreps, l_max: int, targets: set[Irrep], parity: int = -1
) -> tuple[ConvolutionTable, Irreps]:
    """Paths from `irreps_in` through harmonics up to `l_max` to the irreps in `targets`, and the output's irreps.

    Paths are ordered by output irrep, then by input irrep, then by l2; the radial weights have the same order.
    """
    harmonics = list(blocks(natural_irreps(1, l_max, parity)))
    sources: dict[Irrep, list[tuple[Block, Block]]] = {}
    for block in blocks(irreps_in):
        for harmonic in harmonics:
            for irrep in block.irrep * harmonic.irrep:
                if irrep in targets:
                    sources.setdefault(irrep, []).append((block, harmonic))
    paths = []
    weight_offset = output_offset = 0
    irreps_out = []
    for irrep in sorted(sources):
        output_channels = sum(block.channels for block, _ in sources[irrep])
        output_channel = 0
        for block, harmonic in sources[irrep]:
            coupling = wigner_3j(block.irrep.l, harmonic.irrep.l, irrep.l) * math.sqrt(irrep.dim)
            paths.append(
                ConvolutionPath(
                    input_offset=block.offset,
                    harmonic_offset=harmonic.offset,
                    weight_offset=weight_offset,
                    output_offset=output_offset,
                    output_channels=output_channels,
                    output_channel=output_channel,
                    channels=block.channels,
                    coefficients=coupling,
                )
            )
            weight_offset += block.channels
            output_channel += block.channels
        irreps_out.append((output_channels, irrep))
        output_offset += output_channels * irrep.dim
    table = ConvolutionTable(tuple(paths), int(irreps_in.dim), (l_max + 1) ** 2, weight_offset, output_offset)
    return table, Irreps(irreps_out)
