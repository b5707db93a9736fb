"""Between the channel-last layout of the package and e3nn's."""

import torch
from e3nn.o3 import Irreps


def to_e3nn(features: torch.Tensor, irreps: Irreps) -> torch.Tensor:
    """From [nodes, 2l+1, channels] of each irrep to [nodes, channels, 2l+1]."""
    parts = features.split([channels * irrep.dim for channels, irrep in irreps], 1)
    turned = [
        part.reshape(len(part), irrep.dim, channels).transpose(1, 2).flatten(1)
        for part, (channels, irrep) in zip(parts, irreps, strict=True)
    ]
    return torch.cat(turned, 1) if turned else features


def from_e3nn(features: torch.Tensor, irreps: Irreps) -> torch.Tensor:
    """The inverse of `to_e3nn`."""
    parts = features.split([channels * irrep.dim for channels, irrep in irreps], 1)
    turned = [
        part.reshape(len(part), channels, irrep.dim).transpose(1, 2).flatten(1)
        for part, (channels, irrep) in zip(parts, irreps, strict=True)
    ]
    return torch.cat(turned, 1) if turned else features
