"""MACE: equivariant message passing with many-body products.

Batatia et al. 2022 (arXiv 2206.07697). With equal weights it is the `ScaleShiftMACE` of mace-torch with its interaction
blocks `RealAgnosticResidual`, `RealAgnostic` ("mixing" here), `RealAgnosticDensityResidual` and `RealAgnosticDensity`;
`docs/architectures.md` has the mapping of the weights.
"""

import ase.data
import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from mlip.models.config import MaceConfig
from mlip.models.network import Network, number_of_outputs
from mlip.nn import MLP, ElementGroups, ElementLinear, EquivariantLinear, NeighbourDensity, RadialEmbedding
from mlip.nn.build import build_contraction, build_convolution, convolution_irreps
from mlip.nn.distance_transform import TRANSFORMS
from mlip.nn.layout import blocks, canonical_irreps, natural_irreps
from mlip.nn.radial_knots import KnotRadial
from mlip.nn.weights import normal_weights
from mlip.so3 import spherical_harmonics
from mlip_kernels.edges import EdgeTopology


class MaceLayer(nn.Module):
    """One interaction: convolution, symmetric contraction, and maps that depend on the atom's element.

    Args:
        irreps_in: Irreps of the atom features that come in.
        irreps_out: Irreps of those that go out.
        channels: Channels of the many-body products.
        number: Place of the layer in the network, from 0.
        config: Hyper-parameters of the model.

    Attributes:
        density: Divides the sum over neighbours in place of `average_neighbours`; None for other interactions.
        mixing: Mixes the channels of the sum over neighbours; None for other interactions.
        residual: Added to the many-body products; None for other interactions.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, channels: int, number: int, config: MaceConfig) -> None:
        super().__init__()
        density_irreps = natural_irreps(channels, config.l_max)
        product_irreps = Irreps([(channels, irrep) for _, irrep in irreps_out])
        num_elements = len(config.elements)
        interaction = config.interactions[number]
        self.average_neighbours = config.average_neighbours
        products = config.tensor_product
        convolved_irreps = convolution_irreps(irreps_in, products.convolution.choice)
        self.up = EquivariantLinear(irreps_in, convolved_irreps)
        self.convolution = build_convolution(
            convolved_irreps,
            config.l_max,
            density_irreps,
            [config.radial_functions, *config.radial_hidden],
            products.convolution.choice,
        )
        self.density = NeighbourDensity(config.radial_functions) if interaction.startswith("density_") else None
        self.down = EquivariantLinear(self.convolution.irreps_out, density_irreps)
        mixes = interaction.endswith("mixing")
        self.mixing = ElementLinear(density_irreps, density_irreps, num_elements) if mixes else None
        self.contraction = build_contraction(
            config.l_max,
            channels,
            product_irreps,
            config.correlations[number],
            num_elements,
            products.contraction.choice,
        )
        self.out = EquivariantLinear(product_irreps, irreps_out)
        self.residual = None if mixes else ElementLinear(irreps_in, irreps_out, num_elements)

    def forward(
        self,
        features: Tensor,
        harmonics: Tensor,
        radial: Tensor | KnotRadial,
        edges: EdgeTopology,
        groups: ElementGroups,
    ) -> Tensor:
        """Map features [nodes, irreps_in.dim] to [nodes, irreps_out.dim]."""
        divisor = self.average_neighbours if self.density is None else 1.0
        messages = self.down(self.convolution(self.up(features), harmonics, radial, edges), divisor)
        if self.density is not None:
            assert isinstance(radial, Tensor)
            messages = messages / self.density(radial, edges)
        if self.mixing is not None:
            messages = self.mixing(messages, groups)
        following: Tensor = self.out(self.contraction(messages, groups))
        if self.residual is not None:
            following = following + self.residual(features, groups)
        return following


class Mace(Network):
    """The MACE network: layers whose scalars are read out linearly, those of the last by a perceptron.

    A single layer is read out linearly, so that the energy is a linear atomic cluster expansion.

    Attributes:
        transform: Gives what the radial functions see in place of lengths, by the elements of an edge; or None.
    """

    def __init__(self, config: MaceConfig) -> None:
        super().__init__()
        hidden = canonical_irreps(config.hidden_irreps)
        channels = hidden.count("0e")
        scalars = Irreps([(channels, "0e")])
        self.l_max = config.l_max
        self.embedding = normal_weights(len(config.elements), channels)
        self.radial = RadialEmbedding(config.radial_basis, config.radial_functions, config.cutoff, config.cutoff_power)
        numbers = [int(ase.data.atomic_numbers[symbol]) for symbol in config.elements]
        transform = config.distance_transform
        self.transform = TRANSFORMS[transform](numbers) if transform else None
        inputs = [scalars] + [hidden] * (config.layers - 1)
        outputs = [hidden] * (config.layers - 1) + [scalars]
        self.layers = nn.ModuleList(
            [MaceLayer(inputs[number], outputs[number], channels, number, config) for number in range(config.layers)]
        )
        # e3nn's order puts `0o` before `0e`.
        self.invariants = [next(block for block in blocks(irreps) if str(block.irrep) == "0e") for irreps in outputs]
        outputs_per_atom = number_of_outputs(config)
        widths = [[channels, outputs_per_atom]] * config.layers
        if config.layers > 1:
            widths[-1] = [channels, config.readout_hidden, outputs_per_atom]
        self.readouts = nn.ModuleList([MLP(each) for each in widths])

    @property
    def takes_knots(self) -> bool:
        """Whether all radial networks can be tabulated: convolutions by kernels, of functions of the length alone."""
        return self.transform is None and all(
            layer.density is None and layer.convolution.takes_knots for layer in self.layers
        )

    def forward(self, vectors: Tensor, edges: EdgeTopology, groups: ElementGroups) -> Tensor:
        """Compute the energy of each atom and further outputs, [nodes, 1 + further outputs]."""
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        transformed = None
        if self.transform is not None:
            transformed = self.transform(lengths, groups.elements[edges.senders], groups.elements[edges.receivers])
        radial = self.edge_radial(lengths) if transformed is None else self.radial(lengths, transformed)
        harmonics = spherical_harmonics(self.l_max, vectors)
        features = self.embedding.index_select(0, groups.elements)
        total = vectors.new_zeros(())
        for layer, invariants, readout in zip(self.layers, self.invariants, self.readouts, strict=True):
            features = layer(features, harmonics, radial, edges, groups)
            total = total + readout(invariants.of(features)[:, 0])
        return total
