"""Convolution of atom features with the harmonics of the edges, a weight per path and channel by a radial network."""

import math
from collections.abc import Sequence

import numpy as np
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

from mlip.nn.layout import Block, blocks, natural_irreps
from mlip.nn.mlp import MLP
from mlip.nn.radial_knots import KnotRadial
from mlip.so3 import wigner_3j
from mlip.tensor_products.couplings import Coupling, couples, coupling_tensor
from mlip_kernels import channelwise_convolution
from mlip_kernels.backends import available_backend
from mlip_kernels.channelwise_convolution import ConvolutionPath, ConvolutionTable, KernelConvolution
from mlip_kernels.edges import EdgeTopology

# Degree of features and harmonics from which turning edges to the pole is faster.
ESCN_FROM_DEGREE = 4


class Convolution(nn.Module):
    """Sum over neighbours of the Clebsch-Gordan products of their features with the edge's harmonics.

    Each path (l1, l2, l3) and channel has a weight that a radial network computes from the edge's length. The paths of
    one output irrep stay apart, as further channels. Harmonics are component-normalised and the coupling is
    `sqrt(2*l3+1)` times the Wigner 3j tensor, as in MACE and NequIP; another coupling leaves out paths and turns signs.

    Args:
        irreps_in: Canonical irreps of the atom features.
        l_max: Highest degree of the harmonics.
        targets: Irreps wanted in the output.
        radial_widths: Numbers of radial functions and of units in each hidden layer of the radial network.
        implementation: A key of `mlip_kernels.channelwise_convolution.IMPLEMENTATIONS`; chosen by
            `default_implementation` where it is not given.
        parity: That of harmonics of degree 1: -1, or 1 where only rotations count.
        coupling: Which paths there are.

    Attributes:
        irreps_out: Irreps of the output that occur, their channels those of all paths together.
    """

    def __init__(
        self,
        irreps_in: Irreps,
        l_max: int,
        targets: Irreps,
        radial_widths: Sequence[int],
        implementation: str | None = None,
        parity: int = -1,
        coupling: Coupling = "clebsch_gordan",
    ) -> None:
        super().__init__()
        wanted = {irrep for _, irrep in targets}
        self.table, self.irreps_out = convolution_table(irreps_in, l_max, wanted, parity, coupling)
        self.radial_network = MLP([*radial_widths, self.table.weight_dim])
        self.operation = channelwise_convolution.IMPLEMENTATIONS[implementation or default_implementation(self.table)](
            self.table
        )

    @property
    def takes_knots(self) -> bool:
        """Whether radial functions may be given at the knots of a table."""
        return isinstance(self.operation, KernelConvolution)

    def forward(self, features: Tensor, harmonics: Tensor, radial: Tensor | KnotRadial, edges: EdgeTopology) -> Tensor:
        """Convolve features [nodes, irreps_in.dim] with harmonics [edges, (l_max+1)^2].

        Args:
            features: Of the senders.
            harmonics: Of the edges.
            radial: Radial functions, [edges, functions], or those at knots where the convolution takes them.
            edges: Senders and receivers.

        Returns:
            [nodes, irreps_out.dim], channel-last per irrep.
        """
        convolved: Tensor
        if isinstance(radial, KnotRadial):
            assert isinstance(self.operation, KernelConvolution)
            coefficients = radial.coefficients(self.radial_network)
            convolved = self.operation.tabulated(features, harmonics, coefficients, radial.places, edges)
        else:
            convolved = self.operation(features, harmonics, self.radial_network(radial), edges)
        return convolved


def default_implementation(table: ConvolutionTable) -> str:
    """The fastest implementation that there is here: see results/tensor_products.md for high degrees."""
    degrees = [(min(path.coefficients.shape[:2]) - 1) // 2 for path in table.paths]
    if max(degrees) >= ESCN_FROM_DEGREE:
        return "escn"
    return "blocked" if available_backend("cpu") == "reference" else "kernel"


def convolution_table(
    irreps_in: Irreps, l_max: int, targets: set[Irrep], parity: int = -1, coupling: Coupling = "clebsch_gordan"
) -> tuple[ConvolutionTable, Irreps]:
    """Paths from `irreps_in` through harmonics up to `l_max` to the irreps in `targets`, and the output's irreps.

    Paths are ordered by output irrep, then by input irrep, then by l2; the radial weights have the same order.
    """
    harmonics = list(blocks(natural_irreps(1, l_max, parity)))
    spin = (max(l_max, irreps_in.lmax, *(irrep.l for irrep in targets)) + 1) // 2
    sources: dict[Irrep, list[tuple[Block, Block]]] = {}
    for block in blocks(irreps_in):
        for harmonic in harmonics:
            for irrep in block.irrep * harmonic.irrep:
                if irrep in targets and couples(coupling, block.irrep.l, harmonic.irrep.l, irrep.l, spin):
                    sources.setdefault(irrep, []).append((block, harmonic))
    paths = []
    weight_offset = output_offset = 0
    irreps_out = []
    for irrep in sorted(sources):
        output_channels = sum(block.channels for block, _ in sources[irrep])
        output_channel = 0
        for block, harmonic in sources[irrep]:
            tensor = coupling_tensor(coupling, block.irrep.l, harmonic.irrep.l, irrep.l, spin)
            paths.append(
                ConvolutionPath(
                    input_offset=block.offset,
                    harmonic_offset=harmonic.offset,
                    weight_offset=weight_offset,
                    output_offset=output_offset,
                    output_channels=output_channels,
                    output_channel=output_channel,
                    channels=block.channels,
                    coefficients=tensor * (math.sqrt(irrep.dim) / np.linalg.norm(tensor)),
                )
            )
            weight_offset += block.channels
            output_channel += block.channels
        irreps_out.append((output_channels, irrep))
        output_offset += output_channels * irrep.dim
    highest = max([l_max, irreps_in.lmax, *(irrep.l for irrep in sources)])
    lifts = tuple(wigner_3j(degree, 1, degree + 1) * math.sqrt(2 * degree + 3) for degree in range(highest))
    table = ConvolutionTable(tuple(paths), int(irreps_in.dim), (l_max + 1) ** 2, weight_offset, output_offset, lifts)
    return table, Irreps(irreps_out)
