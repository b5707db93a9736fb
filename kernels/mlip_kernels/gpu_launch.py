"""How Triton kernels are launched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlip_kernels.gpu_compile import COMPILER_OPTIONS


@dataclass(frozen=True)
class LaunchParameters:
    """How a kernel whose lanes are channels is launched.

    Attributes:
        block: Channels of a program.
        num_warps: Warps of a program.
    """

    block: int
    num_warps: int

    def blocks(self, channels: int) -> int:
        """Programs for all channels."""
        return -(-channels // self.block)


def launch_parameters(channels: int, lanes: int | None = None) -> LaunchParameters:
    """One warp a program and one channel a lane: sums over channels then need no shared memory and no barrier.

    Args:
        channels: Channels of the features.
        lanes: Lanes of a warp; by default those of the GPUs for which torch was built. With 32 channels or fewer half
            of a warp of 64 stays idle.
    """
    if lanes is None:
        lanes = 64 if torch.version.hip else 32
    return LaunchParameters(32 if channels <= 32 else lanes, 1)


def launch(
    kernel: Any, grid: Sequence[int], arguments: Sequence[Any], constants: Mapping[str, Any], num_warps: int = 1
) -> None:
    """Launch a kernel on the device of its first argument, unless the grid is empty."""
    if 0 in grid:
        return
    device: Tensor = arguments[0]
    with torch.cuda.device_of(device):
        kernel[tuple(grid)](*arguments, **constants, num_warps=num_warps, **COMPILER_OPTIONS)
