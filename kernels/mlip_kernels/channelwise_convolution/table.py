"""What a channelwise convolution couples: a list of paths over flat, channel-last features."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


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

    @property
    def input_span(self) -> tuple[int, int]:
        """First column of the input irrep and number of its columns."""
        return self.input_offset, self.coefficients.shape[0] * self.channels

    @property
    def weight_span(self) -> tuple[int, int]:
        """First column of the weights and number of their columns."""
        return self.weight_offset, self.channels


@dataclass(frozen=True, eq=False)
class ConvolutionTable:
    """All paths of a convolution, with the widths of its operands.

    Attributes:
        paths: The paths; those of one output irrep stand together, in the order of their channels there.
        input_dim: Columns of the atom features.
        harmonics_dim: Columns of the edge harmonics.
        weight_dim: Columns of the edge weights.
        output_dim: Columns of the result.
        lifts: For l = 0, 1, …, up to the highest degree in the paths, the isometry of degree l + 1 into degree l ⊗
            degree 1, float64 [2*l+1, 3, 2*l+3]; what needs no rotation matrices does without.
    """

    paths: tuple[ConvolutionPath, ...]
    input_dim: int
    harmonics_dim: int
    weight_dim: int
    output_dim: int
    lifts: tuple[NDArray[np.float64], ...] = ()


def columns(tensor: Tensor, spans: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Tensor]:
    """Columns of `tensor` in each span (first column, number of columns); spans are equal or apart.

    They are views from one split: its derivative is one concatenation, where that of every slice would be as wide as
    the tensor.
    """
    ordered = sorted(set(spans))
    widths, kept = [], []
    end = 0
    for start, width in ordered:
        if start > end:
            widths.append(start - end)
        kept.append(len(widths))
        widths.append(width)
        end = start + width
    if end < tensor.shape[1]:
        widths.append(tensor.shape[1] - end)
    pieces = tensor.split(widths, 1)
    return {span: pieces[place] for span, place in zip(ordered, kept, strict=True)}
