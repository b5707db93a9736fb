"""How a channelwise convolution is laid out for straight-line code: entries, channel blocks, groups of paths."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mlip_kernels.channelwise_convolution.table import ConvolutionPath, ConvolutionTable

# Coupling coefficients below this are rounding of zeros.
_ZERO = 1e-12

# A combination of harmonics: columns and coefficients.
Combination = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class BlockRange:
    """Blocks of channels, one vector wide, that the same paths have.

    Attributes:
        first: Number of the first block.
        last: Number after the last.
        paths: Numbers of the paths.
    """

    first: int
    last: int
    paths: tuple[int, ...]


@dataclass(frozen=True)
class ConvolutionPlan:
    """The entries of a table's couplings, and its channels in blocks of one vector.

    Args:
        table: Every path's number of channels is a multiple of `lanes`.
        lanes: Numbers in a vector.
        registers: Vector registers of the processor.
    """

    table: ConvolutionTable
    lanes: int
    registers: int

    @cached_property
    def ranges(self) -> list[BlockRange]:
        """Ranges of blocks, ascending; each block number stands for `lanes` channels of every path that has them."""
        ends = sorted({path.channels // self.lanes for path in self.table.paths})
        ranges = []
        first = 0
        for end in ends:
            active = tuple(p for p, path in enumerate(self.table.paths) if path.channels // self.lanes >= end)
            ranges.append(BlockRange(first, end, active))
            first = end
        return ranges

    @cached_property
    def entries(self) -> list[list[tuple[int, int, int, float]]]:
        """Per path, its non-zero coefficients (i, harmonic column, k, value)."""
        entries = []
        for path in self.table.paths:
            places = np.argwhere(np.abs(path.coefficients) > _ZERO)
            entries.append(
                [
                    (int(i), path.harmonic_offset + int(j), int(k), float(path.coefficients[i, j, k]))
                    for i, j, k in places
                ]
            )
        return entries

    @cached_property
    def filters(self) -> list[dict[tuple[int, int], Combination]]:
        """Per path, for each (i, k) the combination of harmonics that takes component i to component k."""
        filters: list[dict[tuple[int, int], Combination]] = []
        for entries in self.entries:
            of_path: dict[tuple[int, int], Combination] = {}
            for i, j, k, value in entries:
                of_path[i, k] = (*of_path.get((i, k), ()), (j, value))
            filters.append(of_path)
        return filters

    @cached_property
    def combinations(self) -> list[Combination]:
        """The distinct combinations of harmonics: one number per edge each, shared by all channels."""
        distinct: dict[Combination, Combination] = {}
        for of_path in self.filters:
            for combination in of_path.values():
                distinct.setdefault(_rounded(combination), combination)
        return list(distinct.values())

    @cached_property
    def _combination_numbers(self) -> dict[Combination, int]:
        return {_rounded(combination): number for number, combination in enumerate(self.combinations)}

    def combination_number(self, path: int, i: int, k: int) -> int:
        """Number of the combination of a path's (i, k)."""
        return self._combination_numbers[_rounded(self.filters[path][i, k])]

    def groups(self, paths: Sequence[int]) -> list[list[int]]:
        """Paths in groups whose sums over edges fit the registers, largest first."""
        limit = self.registers - 8
        groups: list[tuple[int, list[int]]] = []
        for path in sorted(paths, key=lambda number: -self.components(number)):
            size = self.components(path)
            for place, (used, members) in enumerate(groups):
                if used + size <= limit:
                    groups[place] = (used + size, [*members, path])
                    break
            else:
                groups.append((size, [path]))
        return [sorted(members) for _, members in groups]

    def components(self, path: int) -> int:
        """Components 2*l3+1 of a path's output."""
        return int(self.table.paths[path].coefficients.shape[2])

    @property
    def num_blocks(self) -> int:
        """Blocks of the path with the most channels."""
        return self.ranges[-1].last

    @property
    def edge_slots(self) -> int:
        """Sums per edge, padded to whole vectors: the derivatives with respect to the harmonics.

        Where weights come from a table, slot 0 is the distance's: the harmonic of degree 0 is a constant then.
        """
        return -(-self.table.harmonics_dim // self.lanes) * self.lanes


def padded_table(table: ConvolutionTable, lanes: int) -> ConvolutionTable:
    """The table with every number of channels rounded up to whole vectors, and offsets to match."""
    inputs = _padded_blocks({(p.input_offset, p.coefficients.shape[0], p.channels) for p in table.paths}, lanes)
    paths: list[ConvolutionPath] = []
    weight_offset = output_offset = output_end = 0
    last_output = None
    for path in table.paths:
        channels = _padded(path.channels, lanes)
        if path.output_offset != last_output:
            output_offset = output_end
            last_output = path.output_offset
            members = [each for each in table.paths if each.output_offset == path.output_offset]
            output_channels = sum(_padded(each.channels, lanes) for each in members)
            output_end = output_offset + output_channels * path.coefficients.shape[2]
            output_channel = 0
        paths.append(
            replace(
                path,
                input_offset=inputs[path.input_offset],
                weight_offset=weight_offset,
                output_offset=output_offset,
                output_channels=output_channels,
                output_channel=output_channel,
                channels=channels,
            )
        )
        weight_offset += channels
        output_channel += channels
    input_dim = _padded_dim({(p.input_offset, p.coefficients.shape[0], p.channels) for p in table.paths}, lanes)
    return ConvolutionTable(tuple(paths), input_dim, table.harmonics_dim, weight_offset, output_end, table.lifts)


def table_hash(table: ConvolutionTable) -> str:
    """Names everything in a table that compiled code depends on."""
    digest = hashlib.sha256(repr((table.input_dim, table.harmonics_dim, table.weight_dim, table.output_dim)).encode())
    for path in table.paths:
        offsets = (path.input_offset, path.harmonic_offset, path.weight_offset, path.output_offset)
        digest.update(repr((*offsets, path.output_channels, path.output_channel, path.channels)).encode())
        digest.update(repr(path.coefficients.shape).encode() + np.round(path.coefficients, 14).tobytes())
    return digest.hexdigest()


def _padded_blocks(blocks: set[tuple[int, int, int]], lanes: int) -> dict[int, int]:
    offsets = {}
    end = 0
    for offset, rows, channels in sorted(blocks):
        offsets[offset] = end
        end += rows * _padded(channels, lanes)
    return offsets


def _padded_dim(blocks: set[tuple[int, int, int]], lanes: int) -> int:
    return sum(rows * _padded(channels, lanes) for _, rows, channels in blocks)


def _padded(channels: int, lanes: int) -> int:
    return -(-channels // lanes) * lanes


def _rounded(combination: Combination) -> Combination:
    """Equal for combinations that differ by rounding."""
    return tuple((column, round(value, 12)) for column, value in combination)
