"""Gate non-linearity: scalars through an activation, other irreps times an activated scalar."""

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

from mlip.nn.activation import normalised_activation
from mlip.nn.layout import blocks, canonical_irreps

_INVARIANT = Irrep("0e")


class Gate(nn.Module):
    """`0e` through SiLU, `0o` through tanh, and each channel of a higher irrep times the SiLU of a scalar of its own.

    Activations are normalised, as in `e3nn.nn.Gate` with those of NequIP.

    Args:
        irreps_out: Canonical irreps of the output.

    Attributes:
        irreps_in: Canonical irreps of the input: those of the output, with the gates as the last channels of `0e`.
    """

    def __init__(self, irreps_out: Irreps) -> None:
        super().__init__()
        self.irreps_out = irreps_out
        gates = sum(block.channels for block in blocks(irreps_out) if block.irrep.l > 0)
        self.irreps_in = canonical_irreps(irreps_out + Irreps([(gates, "0e")]))

    def forward(self, features: Tensor) -> Tensor:
        """Map [nodes, irreps_in.dim] to [nodes, irreps_out.dim], channel-last per irrep."""
        inputs = {block.irrep: block for block in blocks(self.irreps_in)}
        outputs = []
        gate = self.irreps_out.count("0e")
        for block in blocks(self.irreps_out):
            values = inputs[block.irrep].of(features)
            if block.irrep.l > 0:
                gates = inputs[_INVARIANT].of(features)[:, :, gate : gate + block.channels]
                outputs.append((values * normalised_activation("silu", gates)).flatten(1))
                gate += block.channels
            elif block.irrep.p == 1:
                outputs.append(normalised_activation("silu", values[:, 0, : block.channels]))
            else:
                outputs.append(normalised_activation("tanh", values[:, 0]))
        return torch.cat(outputs, 1)
