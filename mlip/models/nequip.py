"""NequIP: equivariant convolutions and gates.

Batzner et al. 2022 (arXiv 2101.03164). With equal weights it is the network of the NequIP family, SevenNet's included;
`docs/architectures.md` has the mapping of the weights.
"""

import math
from typing import cast

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from mlip.models.config import NequIPConfig
from mlip.models.network import Network, number_of_outputs
from mlip.nn import MLP, ElementGroups, ElementLinear, EquivariantLinear, Gate, RadialEmbedding
from mlip.nn.build import build_convolution, convolution_irreps
from mlip.nn.layout import canonical_irreps, natural_irreps
from mlip.nn.radial_knots import KnotRadial
from mlip.nn.weights import normal_weights
from mlip.so3 import solid_harmonics, spherical_harmonics
from mlip.tensor_products.couplings import couples
from mlip_kernels.edges import EdgeTopology


class NequIPLayer(nn.Module):
    """One interaction: convolution, self-connection, per element or shared by all, and gate.

    Args:
        irreps_in: Irreps of the atom features that come in.
        irreps_out: Irreps of those that go out.
        config: Hyper-parameters of the model.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, config: NequIPConfig) -> None:
        super().__init__()
        self.gate = Gate(irreps_out)
        self.normalisation = 1.0 / math.sqrt(config.average_neighbours)
        choice = config.tensor_product.convolution.choice
        convolved_irreps = convolution_irreps(irreps_in, choice)
        self.up = EquivariantLinear(irreps_in, convolved_irreps)
        self.convolution = build_convolution(
            convolved_irreps,
            config.l_max,
            self.gate.irreps_in,
            [config.radial_functions, *config.radial_hidden],
            choice,
            _harmonic_parity(config),
        )
        self.down = EquivariantLinear(self.convolution.irreps_out, self.gate.irreps_in)
        self.self_connection: ElementLinear | EquivariantLinear
        if config.self_connection == "per_element":
            self.self_connection = ElementLinear(irreps_in, self.gate.irreps_in, len(config.elements))
        else:
            self.self_connection = EquivariantLinear(irreps_in, self.gate.irreps_in)

    def forward(
        self,
        features: Tensor,
        harmonics: Tensor,
        radial: Tensor | KnotRadial,
        edges: EdgeTopology,
        groups: ElementGroups,
    ) -> Tensor:
        """Map features [nodes, irreps_in.dim] to [nodes, irreps_out.dim]."""
        messages = self.convolution(self.up(features), harmonics, radial, edges)
        gated: Tensor = self.gate(self.down(messages, 1.0 / self.normalisation) + self._connected(features, groups))
        return gated

    def _connected(self, features: Tensor, groups: ElementGroups) -> Tensor:
        """The self-connection of features [nodes, irreps_in.dim], [nodes, gate.irreps_in.dim]."""
        connection = self.self_connection
        connected: Tensor = (
            connection(features, groups) if isinstance(connection, ElementLinear) else connection(features)
        )
        return connected


class NequIP(Network):
    """The NequIP network: layers, then a linear map of the last layer's invariant channels."""

    def __init__(self, config: NequIPConfig) -> None:
        super().__init__()
        hidden = canonical_irreps(config.hidden_irreps)
        scalars = Irreps([(hidden.count("0e"), "0e")])
        self.l_max = config.l_max
        self.embedding = normal_weights(len(config.elements), hidden.count("0e"))
        self.harmonics = solid_harmonics if config.solid_harmonics else spherical_harmonics
        self.radial = RadialEmbedding(
            config.radial_basis, config.radial_functions, config.cutoff, config.cutoff_power, config.cutoff_onset
        )
        layers = []
        irreps = scalars
        for number in range(config.layers):
            last = number == config.layers - 1
            following = scalars if last else _reachable(irreps, hidden, config)
            layers.append(NequIPLayer(irreps, following, config))
            irreps = following
        self.layers = nn.ModuleList(layers)
        self.readout = MLP([hidden.count("0e"), number_of_outputs(config)])

    @property
    def takes_knots(self) -> bool:
        """Whether all radial networks can be tabulated, which takes convolutions by kernels."""
        return all(bool(layer.convolution.takes_knots) for layer in cast(list[NequIPLayer], list(self.layers)))

    def forward(self, vectors: Tensor, edges: EdgeTopology, groups: ElementGroups) -> Tensor:
        """Compute the energy of each atom and further outputs, [nodes, 1 + further outputs]."""
        radial = self.edge_radial(torch.linalg.vector_norm(vectors, dim=1))
        harmonics = self.harmonics(self.l_max, vectors)
        features = self.embedding.index_select(0, groups.elements)
        for layer in self.layers:
            features = layer(features, harmonics, radial, edges, groups)
        outputs: Tensor = self.readout(features)
        return outputs


def _harmonic_parity(config: NequIPConfig) -> int:
    """Parity of the harmonics of degree 1; without reflections every irrep counts as even."""
    return -1 if config.symmetry == "O3" else 1


def _reachable(irreps: Irreps, hidden: Irreps, config: NequIPConfig) -> Irreps:
    """The hidden irreps that products of `irreps` with the harmonics can give: the first layer has no `0o`, say."""
    harmonics = natural_irreps(1, config.l_max, _harmonic_parity(config))
    coupling = config.tensor_product.convolution.choice.coupling
    spin = (max(config.l_max, hidden.lmax) + 1) // 2
    products = {
        irrep
        for _, source in irreps
        for _, harmonic in harmonics
        for irrep in source * harmonic
        if irrep in hidden and couples(coupling, source.l, harmonic.l, irrep.l, spin)
    }
    products |= {irrep for _, irrep in irreps}
    return Irreps([(channels, irrep) for channels, irrep in hidden if irrep in products])
