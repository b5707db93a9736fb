"""The mixing of channels on the CPU, as compiled programs.

Tasks share out the rows, or the input channels where gradients of weights are wanted: no two write the same numbers,
and every number is a sum in one order.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mlip_kernels.channel_mixing.cpu_code import MixingCode
from mlip_kernels.channel_mixing.table import Call, MixingTable
from mlip_kernels.simd.code import Code, Index, Indices, RealType
from mlip_kernels.simd.program import Program
from mlip_kernels.simd.target import host_target

_REALS: dict[torch.dtype, RealType] = {torch.float32: "float32", torch.float64: "float64"}
# Arguments of the programs: rows, groups, the list of rows, where groups start, factors, two matrices, then weights.
_ROWS, _GROUPS, _ORDER, _STARTS, _FACTORS, _FIRST, _SECOND, _WEIGHTS = range(8)
# Multiply-adds below which one thread does the work.
_FEW_PRODUCTS = 200_000


def fits_vectors(table: MixingTable) -> bool:
    """Whether the channels of all blocks fill whole vectors of this CPU."""
    lanes = host_target().lanes("float32")
    return all(block.channels_in % lanes == 0 and block.channels_out % lanes == 0 for block in table.blocks)


class CpuMixing:
    """The function of `ReferenceMixing` and its gradients for one number type.

    Args:
        table: Its channels fill whole vectors.
        dtype: float32 or float64.
        grouped: Whether rows come in groups.
    """

    def __init__(self, table: MixingTable, dtype: torch.dtype, grouped: bool) -> None:
        self.table = table
        self.dtype = dtype
        self.grouped = grouped
        self._codes = [MixingCode(block.channels_in, block.channels_out, grouped) for block in table.blocks]
        self._factors = torch.tensor([block.factor for block in table.blocks], dtype=dtype)
        self._products = sum(block.components * block.channels_in * block.channels_out for block in table.blocks)
        self._programs: dict[str, Program] = {}

    def map(self, features: Tensor, weights: Sequence[Tensor], call: Call) -> Tensor:
        """Mix; weights and result are those of `ReferenceMixing.forward`."""
        rows = len(features)
        new = torch.empty if self.table.fills_output else torch.zeros
        output = new(rows, self.table.output_dim, dtype=self.dtype)
        self._run("map", rows, call, features.contiguous(), output, weights)
        return output

    def transpose(self, received: Tensor, weights: Sequence[Tensor], call: Call) -> Tensor:
        """Gradient of `<received, map>` with respect to the features."""
        rows = len(received)
        new = torch.empty if self.table.reads_input else torch.zeros
        output = new(rows, self.table.input_dim, dtype=self.dtype)
        self._run("transpose", rows, call, received.contiguous(), output, weights)
        return output

    def outer(self, features: Tensor, received: Tensor, call: Call) -> list[Tensor]:
        """Gradients of `<received, map>` with respect to the weights."""
        leading = [] if call.groups is None else [len(call.groups.counts)]
        results = [
            torch.empty(*leading, block.channels_in, block.channels_out, dtype=self.dtype)
            for block in self.table.blocks
        ]
        self._run("outer", len(features), call, features.contiguous(), received.contiguous(), results)
        return results

    def _run(self, kind: str, rows: int, call: Call, first: Tensor, second: Tensor, weights: Sequence[Tensor]) -> None:
        counts = [rows] if call.groups is None else call.groups.counts
        starts = np.cumsum([0, *counts])
        order = 0 if call.groups is None else call.groups.order
        factors = self._factors if call.scale == 1.0 else self._factors * call.scale
        # The list keeps copies alive until the program has run.
        arrays = [each.contiguous() for each in weights]
        tasks = torch.get_num_threads() if rows * self._products > _FEW_PRODUCTS else 1
        operands = [rows, len(counts), order, starts.ctypes.data, factors, first, second, *arrays]
        self._program(kind)(operands, tasks)

    def _program(self, kind: str) -> Program:
        if kind not in self._programs:

            def emit(code: Code, arguments: Indices, task: Index, tasks: Index) -> None:
                self._emit(kind, code, arguments, task, tasks)

            layout = hashlib.sha256(repr(self.table.layout).encode()).hexdigest()
            key = f"channel_mixing {kind} {self.grouped} {layout}"
            self._programs[kind] = Program(f"Mixing of channels: {kind}.", key, _REALS[self.dtype], [emit])
        return self._programs[kind]

    def _emit(self, kind: str, code: Code, arguments: Indices, task: Index, tasks: Index) -> None:
        table, starts, order = self.table, arguments.indices(_STARTS), arguments.indices(_ORDER)
        first, second = arguments.reals(_FIRST), arguments.reals(_SECOND)
        factors = arguments.reals(_FACTORS)
        own_start, own_stop = _share(arguments.get(_ROWS), task, tasks)
        with code.loop(0, arguments.get(_GROUPS)) as group:
            rows = starts.get(group), starts.get(group + 1)
            # Nothing, where the group's rows are all another task's.
            first_row = rows[0].most(own_start)
            own = first_row, rows[1].least(own_stop).most(first_row)
            for number, (block, mixing) in enumerate(zip(table.blocks, self._codes, strict=True)):
                weights = arguments.reals(_WEIGHTS + number).at(group * (block.channels_in * block.channels_out))
                factor = factors.at(number)
                if kind == "outer":
                    x, g = first.at(block.input_offset), second.at(block.output_offset)
                    channels = _share(code.index(block.channels_in), task, tasks)
                    mixing.outer(
                        code, block.components, x, table.input_dim, g, table.output_dim, weights, order, *rows,
                        *channels, factor,
                    )  # fmt: skip
                elif kind == "map":
                    x, y = first.at(block.input_offset), second.at(block.output_offset)
                    mixing.map(
                        code, block.components, x, table.input_dim, weights, y, table.output_dim, order, *own, factor
                    )  # fmt: skip
                else:
                    g, y = first.at(block.output_offset), second.at(block.input_offset)
                    mixing.transpose(
                        code, block.components, g, table.output_dim, weights, y, table.input_dim, order, *own, factor
                    )  # fmt: skip


def _share(count: Index, task: Index, tasks: Index) -> tuple[Index, Index]:
    """First and last of a task's share."""
    return (task * count) // tasks, ((task + 1) * count) // tasks
