"""What a channelwise convolution couples: a list of paths over flat, channel-last features."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ConvolutionPath:
    """One coupling of an input irrep with an edge harmonic to an output irrep.

    Attributes:
        input_offset: First column of the input irrep, whose columns are [2*l1+1, channels] with the channel last.
        harmonic_offset: First column of the harmonic of degree l2.
        weight_offset: First of the path's `channels` columns in the weights.
        output_offset: First column of the output irrep, whose columns are [2*l3+1, output_channels].
        output_channels: Channels of the whole output irrep, all its paths together.
        output_channel: First of the path's `channels` within them.
        channels: Channels of the path.
        coefficients: Coupling, float64 [2*l1+1, 2*l2+1, 2*l3+1], normalisation included.
    """

    input_offset: int
    harmonic_offset: int
    weight_offset: int
    output_offset: int
    output_channels: int
    output_channel: int
    channels: int
    coefficients: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ConvolutionTable:
    """All paths of a convolution, with the widths of its operands.

    Attributes:
        paths: The paths; those of one output irrep stand together, in the order of their channels there.
        input_dim: Columns of the atom features.
        harmonics_dim: Columns of the edge harmonics.
        weight_dim: Columns of the edge weights.
        output_dim: Columns of the result.
    """

    paths: tuple[ConvolutionPath, ...]
    input_dim: int
    harmonics_dim: int
    weight_dim: int
    output_dim: int
