"""Initial weights."""

import torch
from torch import nn


def normal_weights(*shape: int) -> nn.Parameter:
    """Standard normal weights, drawn in float32 whatever torch's default dtype, so that one seed gives one model."""
    return nn.Parameter(torch.randn(shape, dtype=torch.float32))
