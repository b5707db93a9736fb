"""What a mixing of channels reads and writes."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class MixingBlock:
    """Columns that are mixed among themselves: `[components, channels]`, the channel last.

    Attributes:
        input_offset: First column of the input.
        output_offset: First column of the output.
        components: Rows of channels, mixed alike.
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        factor: Multiplies the result.
    """

    input_offset: int
    output_offset: int
    components: int
    channels_in: int
    channels_out: int
    factor: float


@dataclass(frozen=True)
class MixingTable:
    """Blocks of a map from rows of `input_dim` numbers to rows of `output_dim`; what no block writes is zero."""

    blocks: tuple[MixingBlock, ...]
    input_dim: int
    output_dim: int

    @property
    def layout(self) -> tuple[tuple[int, ...], ...]:
        """All numbers but the factors."""
        sizes = [
            (block.input_offset, block.output_offset, block.components, block.channels_in, block.channels_out)
            for block in self.blocks
        ]
        return ((self.input_dim, self.output_dim), *sizes)

    @property
    def fills_output(self) -> bool:
        """Whether blocks write every column of the output."""
        return sum(block.components * block.channels_out for block in self.blocks) == self.output_dim

    @property
    def reads_input(self) -> bool:
        """Whether blocks read every column of the input."""
        return sum(block.components * block.channels_in for block in self.blocks) == self.input_dim


@dataclass(frozen=True)
class RowGroups:
    """Rows in groups with weights of their own, such as atoms by element.

    Attributes:
        order: Rows sorted by group, int64 [rows].
        counts: Rows of each group.
    """

    order: Tensor
    counts: list[int]


@dataclass(frozen=True)
class Call:
    """What a call of the map has beside rows and weights.

    Attributes:
        groups: Groups of rows with weights of their own; None where all rows have the same.
        scale: Multiplies the result.
    """

    groups: RowGroups | None
    scale: float
