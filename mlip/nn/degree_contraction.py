"""Many-body products with weights per degree or shared: what a swapped tensor product computes."""

from math import sqrt

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from mlip.errors import ConfigError
from mlip.nn.elements import ElementGroups
from mlip.nn.layout import natural_irreps
from mlip.nn.powers import build_power
from mlip.nn.product_choice import ProductChoice
from mlip.nn.weights import normal_weights


class DegreeContraction(nn.Module):
    """Powers of order 1 to `correlation` of features of degree 0 to l_max, channel by channel.

    The power of an order is weighted by `a[l]` on its inputs and `b[irrep]` on its output (`per_degree`), or by one
    number (`shared`), per element and channel. What a power is, the coupling says: for `gaunt` that of the function
    `sum A_lm Y_lm` on the sphere, projected on the output's harmonics; for the others the product of the power before,
    kept to the irreps of the features, with the features once more. Every backend of a coupling computes the same
    function of the same weights.

    Args:
        l_max: Highest degree of the input, which has every degree from 0 with the parity (-1)^l.
        channels: Channels of the input and of every output irrep.
        irreps_out: Canonical irreps of the output.
        correlation: Highest order.
        num_elements: Number of elements.
        choice: Backend, coupling and weights.

    Raises:
        ConfigError: the backend cannot compute the coupling's powers, or they do not reach an irrep of the output.
    """

    input_rows: Tensor
    output_rows: Tensor

    def __init__(
        self,
        l_max: int,
        channels: int,
        irreps_out: Irreps,
        correlation: int,
        num_elements: int,
        choice: ProductChoice,
    ) -> None:
        super().__init__()
        self.channels = channels
        inputs = [irrep for _, irrep in natural_irreps(1, l_max)]
        outputs = [irrep for _, irrep in irreps_out]
        powers = [build_power(l_max, outputs, order, channels, choice) for order in range(1, correlation + 1)]
        self.powers = nn.ModuleList(powers)
        per_degree = choice.weights == "per_degree"
        weights = normal_weights(num_elements, correlation, len(outputs) if per_degree else 1, channels)
        self.output_weights = nn.Parameter(weights.detach() / sqrt(correlation))
        self.input_weights = (
            nn.Parameter(torch.ones(num_elements, correlation, len(inputs), channels, dtype=torch.float32))
            if per_degree
            else None
        )
        rows = [row if per_degree else 0 for row, irrep in enumerate(inputs) for _ in range(irrep.dim)]
        self.register_buffer("input_rows", torch.tensor(rows), persistent=False)
        # The components of the output that each power fills, and the row of weights of each of them.
        components = [(row, irrep) for row, irrep in enumerate(outputs) for _ in range(irrep.dim)]
        self.dim = len(components)
        for number, power in enumerate(powers):
            filled = [(place, row) for place, (row, irrep) in enumerate(components) if irrep in power.reached]
            places, rows = [place for place, _ in filled], [row if per_degree else 0 for _, row in filled]
            self.register_buffer(f"places_{number}", torch.tensor(places), persistent=False)
            self.register_buffer(f"output_rows_{number}", torch.tensor(rows), persistent=False)
        missing = {irrep for _, irrep in components}.difference(*(power.reached for power in powers))
        if missing:
            raise ConfigError(
                f"many-body products of the coupling '{choice.coupling}' do not give '{min(missing)}': "
                "leave it out of the hidden irreps, or choose the contraction's coupling clebsch_gordan."
            )

    def forward(self, features: Tensor, groups: ElementGroups) -> Tensor:
        """Contract features [nodes, (l_max+1)^2 * channels] to [nodes, irreps_out.dim], channel-last per irrep."""
        features = features.unflatten(1, (-1, self.channels))
        output_weights = self.output_weights.index_select(0, groups.elements)
        total = features.new_zeros(len(features), self.dim, self.channels)
        for number, power in enumerate(self.powers):
            weighted = features
            if self.input_weights is not None:
                input_weights = self.input_weights[:, number].index_select(0, groups.elements)
                weighted = features * input_weights.index_select(1, self.input_rows)
            weights = output_weights[:, number].index_select(1, self.get_buffer(f"output_rows_{number}"))
            total = total.index_add(1, self.get_buffer(f"places_{number}"), power(weighted) * weights)
        return total.flatten(1)
