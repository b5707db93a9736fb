"""Equivariant linear maps: channels of equal irreps are mixed, components are not."""

import math
from collections.abc import Callable

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

from mlip.nn.elements import ElementGroups
from mlip.nn.layout import Block, blocks
from mlip.nn.weights import normal_weights
from mlip_kernels.backends import available_backend
from mlip_kernels.channel_mixing import KernelMixing, MixingBlock, MixingTable, RowGroups, fits_vectors


class EquivariantLinear(nn.Module):
    """`y[irrep] = x[irrep] W[irrep] / sqrt(channels in)`, the normalisation of `e3nn.o3.Linear`.

    An output irrep that the input lacks is zero.

    Args:
        irreps_in: Canonical irreps of the input.
        irreps_out: Canonical irreps of the output.

    Attributes:
        kernel: The map as a compiled program, which the CPU takes; None where plain torch does.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps) -> None:
        super().__init__()
        self.irreps_in = irreps_in
        self.irreps_out = irreps_out
        self.inputs = {block.irrep: block for block in blocks(irreps_in)}
        self.outputs = list(blocks(irreps_out))
        self.weights = nn.ParameterDict(
            {
                str(block.irrep): normal_weights(self.inputs[block.irrep].channels, block.channels)
                for block in self.outputs
                if block.irrep in self.inputs
            }
        )
        self.kernel = _kernel(irreps_in, irreps_out, grouped=False)

    def forward(self, features: Tensor, divisor: float = 1.0) -> Tensor:
        """Map features [nodes, irreps_in.dim] to [nodes, irreps_out.dim], channel-last per irrep, and divide them."""
        if self.kernel is not None and _on_cpu(features):
            result: Tensor = self.kernel(features, list(self.weights.values()), divisor=divisor)
            return result
        mixed = _mix_channels(features, self.inputs, self.outputs, lambda irrep: self.weights[irrep])
        return mixed if divisor == 1.0 else mixed / divisor


class ElementLinear(nn.Module):
    """A linear map whose weights depend on the atom's element: `y[n] = x[n] W[element of n] / sqrt(channels in)`.

    It is `e3nn.o3.FullyConnectedTensorProduct` of the features with a one-hot element, whose weights are these times
    the square root of the number of elements.

    Args:
        irreps_in: Canonical irreps of the input.
        irreps_out: Canonical irreps of the output; one that the input lacks is zero.
        num_elements: Number of elements.

    Attributes:
        kernel: The map as a compiled program, which the CPU takes; None where plain torch does.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, num_elements: int) -> None:
        super().__init__()
        self.irreps_in = irreps_in
        self.irreps_out = irreps_out
        self.inputs = {block.irrep: block for block in blocks(irreps_in)}
        self.outputs = list(blocks(irreps_out))
        self.weights = nn.ParameterDict(
            {
                str(block.irrep): normal_weights(num_elements, self.inputs[block.irrep].channels, block.channels)
                for block in self.outputs
                if block.irrep in self.inputs
            }
        )
        self.kernel = _kernel(irreps_in, irreps_out, grouped=True)

    def forward(self, features: Tensor, groups: ElementGroups) -> Tensor:
        """Map features [nodes, irreps_in.dim] to [nodes, irreps_out.dim], channel-last per irrep."""
        if self.kernel is not None and _on_cpu(features):
            rows = RowGroups(groups.order, groups.counts)
            result: Tensor = self.kernel(features, list(self.weights.values()), rows)
            return result
        return groups.apply(self._map, features)

    def _map(self, features: Tensor, element: int) -> Tensor:
        return _mix_channels(features, self.inputs, self.outputs, lambda irrep: self.weights[irrep][element])


def _kernel(irreps_in: Irreps, irreps_out: Irreps, grouped: bool) -> KernelMixing | None:
    """The map as a compiled program; None where channels do not fill vectors or kernels are off."""
    inputs = {block.irrep: block for block in blocks(irreps_in)}
    pairs = [(inputs[block.irrep], block) for block in blocks(irreps_out) if block.irrep in inputs]
    table = MixingTable(
        tuple(
            MixingBlock(
                source.offset, block.offset, block.dim, source.channels, block.channels, 1 / math.sqrt(source.channels)
            )
            for source, block in pairs
        ),
        irreps_in.dim,
        irreps_out.dim,
    )
    if not pairs or available_backend("cpu") != "cpu" or not fits_vectors(table):
        return None
    return KernelMixing(table, grouped)


def _on_cpu(features: Tensor) -> bool:
    return features.device.type == "cpu" and features.dtype in (torch.float32, torch.float64)


def _mix_channels(
    features: Tensor, inputs: dict[Irrep, Block], outputs: list[Block], weight_of: Callable[[str], Tensor]
) -> Tensor:
    """Map the channels of each output irrep from those of the same irrep in the input; zero where there is none."""
    # One split, whose gradient is one concatenation; that of a slice is as wide as the features.
    parts = features.split([block.dim * block.channels for block in inputs.values()], 1)
    sources = dict(zip(inputs, parts, strict=True))
    mixed = []
    for block in outputs:
        source = inputs.get(block.irrep)
        if source is None:
            mixed.append(features.new_zeros(features.shape[0], block.dim * block.channels))
            continue
        weight = weight_of(str(block.irrep)) / math.sqrt(source.channels)
        # Of two matrices, since the product of three axes with two takes another way, with other rounding, where
        # gradients are wanted.
        rows = sources[block.irrep].reshape(-1, source.channels)
        mixed.append((rows @ weight).reshape(features.shape[0], -1))
    return torch.cat(mixed, 1)
