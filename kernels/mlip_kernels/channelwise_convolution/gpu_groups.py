"""Paths of a convolution in groups that one Triton kernel can hold in registers."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mlip_kernels.channelwise_convolution.table import ConvolutionPath, ConvolutionTable

Task = Literal["forward", "gradients", "coefficients"]

# Numbers of float32 vectors that the paths of a kernel keep across the loop over edges; with these no kernel spills
# (tests/kernels/test_kernels_gpu_compile.py), and the convolutions of a usual MACE need one kernel each.
_REGISTERS: dict[Task, int] = {"forward": 48, "gradients": 80, "coefficients": 48}


@dataclass(frozen=True)
class PathGroup:
    """Paths of equal channel counts that one kernel computes.

    Attributes:
        numbers: Numbers of the paths in the table.
        channels: Channels of each.
        continued: Input irreps, by their first column, that paths of earlier groups have as well.
    """

    numbers: tuple[int, ...]
    channels: int
    continued: frozenset[int]


def path_groups(table: ConvolutionTable, task: Task, itemsize: int) -> tuple[PathGroup, ...]:
    """All paths in groups, those of one input irrep together as far as registers allow.

    Args:
        table: The paths.
        task: What the kernels compute.
        itemsize: Bytes of a number.
    """
    budget = _REGISTERS[task] * 4 // itemsize
    groups: list[PathGroup] = []
    seen: set[int] = set()
    for channels in sorted({path.channels for path in table.paths}, reverse=True):
        costs = {number: _vectors(path, task) for number, path in enumerate(table.paths) if path.channels == channels}
        ordered = sorted(costs, key=lambda number: table.paths[number].input_offset)
        for numbers in _balanced(ordered, costs, budget):
            irreps = {table.paths[number].input_offset for number in numbers}
            groups.append(PathGroup(numbers, channels, frozenset(irreps & seen)))
            seen |= irreps
    return tuple(groups)


def _balanced(numbers: list[int], costs: dict[int, int], budget: int) -> list[tuple[int, ...]]:
    """Consecutive numbers in the fewest groups within the budget, the dearest of which is as cheap as may be."""
    fewest = _filled(numbers, costs, budget)
    for limit in range(max(costs.values()), budget):
        groups = _filled(numbers, costs, limit)
        if len(groups) == len(fewest):
            return groups
    return fewest


def _filled(numbers: list[int], costs: dict[int, int], limit: int) -> list[tuple[int, ...]]:
    """Consecutive numbers in groups that are filled up to a limit; one that is dearer stands alone."""
    groups: list[list[int]] = []
    cost = 0
    for number in numbers:
        if not groups or cost + costs[number] > limit:
            groups.append([])
            cost = 0
        groups[-1].append(number)
        cost += costs[number]
    return [tuple(group) for group in groups]


def _vectors(path: ConvolutionPath, task: Task) -> int:
    """Vectors that a path keeps: its sums, its couplings with the gradient, or its sums for each basis function."""
    if task == "forward":
        return path.coefficients.shape[2]
    if task == "gradients":
        return int(np.count_nonzero(path.coefficients.any(2)))
    return 4
