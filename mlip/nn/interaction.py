"""Product of an atom's features with themselves, channel by channel."""

import torch
from e3nn.o3 import Irreps
from torch import Tensor

from mlip.errors import ConfigError
from mlip.nn.gain import product_gain
from mlip.nn.linear import EquivariantLinear
from mlip.nn.product_choice import ProductChoice
from mlip.nn.weights import normal_weights
from mlip.tensor_products import ProductSpec
from mlip_kernels.constants import ConstantModule


class FeatureInteraction(ConstantModule):
    """`out(γ Σ_paths w T(left(x), right(x)))`: two linear maps of the features, multiplied, and a third of the product.

    Args:
        irreps_in: Canonical irreps of the features.
        irreps_out: Canonical irreps of the result; one that the coupling does not reach is zero.
        channels: Channels in which products are taken.
        choice: Backend, coupling and weights of the product.

    Raises:
        ConfigError: the backend cannot compute the coupling or has not the weights, or no path leads to irreps_out.
    """

    gain: Tensor

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, channels: int, choice: ProductChoice) -> None:
        super().__init__()
        operand = tuple(irrep for _, irrep in irreps_in)
        wanted = tuple(irrep for _, irrep in irreps_out)
        reached = {path.irrep_out for path in ProductSpec(operand, operand, wanted, choice.coupling, "none").paths}
        if not reached:
            raise ConfigError(
                f"the coupling '{choice.coupling}' leads from products of {irreps_in} to none of {irreps_out}: "
                "choose another coupling or other irreps."
            )
        outputs = tuple(irrep for irrep in wanted if irrep in reached)
        spec = ProductSpec(operand, operand, outputs, choice.coupling, choice.weights)
        self.channels = channels
        self.left = EquivariantLinear(irreps_in, Irreps([(channels, irrep) for irrep in operand]))
        self.right = EquivariantLinear(irreps_in, Irreps([(channels, irrep) for irrep in operand]))
        self.weights = normal_weights(spec.weight_rows, channels)
        self.product = choice.build(spec, channels, channels)
        self.out = EquivariantLinear(Irreps([(channels, irrep) for irrep in outputs]), irreps_out)
        self.register_constant("gain", torch.tensor(product_gain(spec))[:, None])

    def forward(self, features: Tensor) -> Tensor:
        """Map [nodes, irreps_in.dim] to [nodes, irreps_out.dim], channel-last per irrep."""
        left, right = (each(features).unflatten(1, (-1, self.channels)) for each in (self.left, self.right))
        product = self.product(left, right, self.weights[None])
        return self.out((product * self.gain).flatten(1))
