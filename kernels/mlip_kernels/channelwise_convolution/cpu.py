"""The channelwise convolution and its gradients on the CPU, as compiled programs.

Tasks share out the blocks of channels, so that no two write the same numbers: sums over senders and over knots need no
atomics, and results are the same from run to run. A task goes through the receivers tile by tile, and in a tile through
its blocks one after another: a block's part of the radial table stays in the cache meanwhile.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from mlip_kernels.channelwise_convolution.cpu_code import ConvolutionCode, row_layouts
from mlip_kernels.channelwise_convolution.cpu_padding import PaddedColumns
from mlip_kernels.channelwise_convolution.cpu_plan import BlockRange, ConvolutionPlan, padded_table, table_hash
from mlip_kernels.channelwise_convolution.cpu_splines import BASIS, spline_basis, table_place
from mlip_kernels.channelwise_convolution.cpu_tangent import TangentCode
from mlip_kernels.channelwise_convolution.cpu_tiles import Tile, tile_size, tiles
from mlip_kernels.channelwise_convolution.table import ConvolutionTable
from mlip_kernels.simd.code import Code, Index, Indices, Reals, RealType
from mlip_kernels.simd.program import Phase, Program
from mlip_kernels.simd.target import host_target

_REALS: dict[torch.dtype, RealType] = {torch.float32: "float32", torch.float64: "float64"}
# Arguments of the programs, in order.
(
    _COUNT, _EDGES, _KNOTS, _TILE, _TILE_EDGES, _DERIVATIVE, _STARTS, _SENDERS, _HARMONICS, _PLACES, _FEATURES,
    _WEIGHTS, _ROWS, _SCALARS,
) = range(14)  # fmt: skip
_OUTPUT = 14
_RECEIVED, _EDGE_SUMS, _OF_FEATURES, _OF_WEIGHTS = range(14, 18)
_TANGENT_OUTPUT, _FEATURE_CHANGES, _HARMONIC_CHANGES, _PLACE_CHANGES = range(18, 22)
# The fourth derivative of a cubic spline is zero.
_DERIVATIVES = 4


@dataclass(frozen=True)
class Parts:
    """Which gradients to compute beside those of the features."""

    edges: bool = True
    weights: bool = True


# Of features, edges, and weights or table; or of what is received, features and table.
Gradients = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Changes:
    """A direction in which operands change.

    Attributes:
        features: [nodes, input_dim], or None where they are constant.
        harmonics: [edges, harmonics_dim]; the first column is left out of account.
        places: Of the distances, with two numbers more.
    """

    features: Tensor | None
    harmonics: Tensor
    places: Tensor


class CpuConvolution:
    """The function of `ReferenceConvolution` for one number type.

    Args:
        table: The couplings.
        dtype: float32 or float64.
        tabulated: Whether weights are given for every edge, or interpolated from a radial table.
    """

    def __init__(self, table: ConvolutionTable, dtype: torch.dtype, tabulated: bool = False) -> None:
        self.table = table
        self.dtype = dtype
        self.tabulated = tabulated
        target = host_target()
        lanes = target.lanes(_REALS[dtype])
        self.padded = any(path.channels % lanes for path in table.paths)
        self.plan = ConvolutionPlan(padded_table(table, lanes), lanes, target.vector_registers)
        layouts = row_layouts(self.plan)
        self._code = ConvolutionCode(self.plan, layouts, tabulated, "convolution")
        self._columns = PaddedColumns(table, self.plan.table) if self.padded else None
        self._programs: dict[str, Program] = {}

    def forward(
        self,
        features: Tensor,
        harmonics: Tensor,
        weights: Tensor,
        places: Tensor,
        senders: Tensor,
        starts: Tensor,
        derivative: int = 0,
        total: Tensor | None = None,
    ) -> Tensor:
        """Convolve.

        Args:
            features: [nodes, input_dim].
            harmonics: [edges, harmonics_dim].
            weights: [edges, weight_dim], or the table's coefficients [knots, weight_dim].
            places: With a table, one row [edges + 2]: distances, origin of the table and inverse spacing; else empty.
                An edge takes the four coefficients from number floor((distance - origin) * inverse spacing) on.
            senders: int64 [edges].
            starts: First edge of each receiver, and the number of edges, int64 [nodes + 1].
            derivative: With a table, the order of the derivative of the weights with respect to the distance.
            total: An earlier result, to which this one is added in place.

        Returns:
            [nodes, output_dim].
        """
        if self._columns is not None:
            features, weights = self._columns.input.pad(features), self._columns.weight.pad(weights)
        tasks = self._tasks()
        operands = (starts, senders, harmonics, places, features, weights)
        common = self._common(operands, derivative, tasks, self._code.forward_scalars)
        if total is not None and self._columns is None:
            self._forward_program(add=True)([*common, total], tasks)
            return total
        output = features.new_empty(len(starts) - 1, self.plan.table.output_dim)
        self._forward_program(add=False)([*common, output], tasks)
        if self._columns is None:
            return output
        narrow = self._columns.output.cut(output)
        return narrow if total is None else total.add_(narrow)

    def gradients(
        self,
        received: Tensor,
        features: Tensor,
        harmonics: Tensor,
        weights: Tensor,
        places: Tensor,
        senders: Tensor,
        starts: Tensor,
        derivative: int = 0,
        wanted: Parts = Parts(),
        totals: Gradients | None = None,
    ) -> Gradients:
        """Gradients of `<received, forward>` with respect to features, sums per edge, and weights or table.

        The sums [edges, harmonics_dim] are the derivatives with respect to the harmonics; with a table, column 0 is
        that with respect to the distance, since the harmonic of degree 0 is a constant.

        Args:
            wanted: What is to be computed; the others are zero.
            totals: Earlier gradients; those of features and weights are added to in place, and returned.
        """
        if self._columns is not None:
            features, weights = self._columns.input.pad(features), self._columns.weight.pad(weights)
            received = self._columns.output.pad(received)
        tasks = self._tasks()
        operands = (starts, senders, harmonics, places, features, weights)
        common = self._common(operands, derivative, tasks, self._code.gradient_scalars)
        edge_sums = features.new_zeros(tasks if wanted.edges else 0, len(senders), self.plan.edge_slots)
        if totals is not None and self._columns is None:
            of_features, _, of_weights = totals
        else:
            of_features, of_weights = torch.zeros_like(features), _zeros(weights, wanted.weights)
        arrays = (received.contiguous(), edge_sums, of_features, of_weights)
        self._gradient_program(wanted)([*common, *arrays], tasks)
        of_edges = _zeros(harmonics, False)
        if wanted.edges:
            of_edges = (edge_sums.sum(0) if tasks > 1 else edge_sums[0])[:, : self.table.harmonics_dim].contiguous()
        if self._columns is not None:
            of_features, of_weights = self._columns.input.cut(of_features), self._columns.weight.cut(of_weights)
            if totals is not None:
                of_features, of_weights = totals[0].add_(of_features), totals[2].add_(of_weights)
        return of_features, of_edges, of_weights

    def tangent(
        self,
        received: Tensor,
        features: Tensor,
        harmonics: Tensor,
        weights: Tensor,
        places: Tensor,
        senders: Tensor,
        starts: Tensor,
        changes: Changes,
        derivative: int = 0,
    ) -> Gradients:
        """Derivatives of `forward`, and of its gradients for features and table, along a change; with a table only."""
        if self._columns is not None:
            features, weights = self._columns.input.pad(features), self._columns.weight.pad(weights)
            received = self._columns.output.pad(received)
        feature_changes = changes.features
        if feature_changes is not None and self._columns is not None:
            feature_changes = self._columns.input.pad(feature_changes)
        tasks = self._tasks()
        tangent = TangentCode(self._code, feature_changes is not None)
        operands = (starts, senders, harmonics, places, features, weights)
        common = self._common(operands, derivative, tasks, tangent.scalars)
        output = torch.empty_like(received, memory_format=torch.contiguous_format)
        of_features, of_weights = torch.zeros_like(features), torch.zeros_like(weights)
        given = (features if feature_changes is None else feature_changes, changes.harmonics, changes.places)
        changed = [each.contiguous() for each in given]
        arrays: list[int | Tensor] = [received.contiguous(), 0, of_features, of_weights, output, *changed]
        self._tangent_program(tangent)([*common, *arrays], tasks)
        if self._columns is None:
            return output, of_features, of_weights
        columns = self._columns
        return columns.output.cut(output), columns.input.cut(of_features), columns.weight.cut(of_weights)

    def _forward_program(self, add: bool) -> Program:
        def emit(code: Code, arguments: Indices, task: Index, tasks: Index) -> None:
            self._emit_forward(code, arguments, task, tasks, add)

        return self._program(f"forward {add}", "Channelwise convolution.", emit)

    def _gradient_program(self, wanted: Parts) -> Program:
        def emit(code: Code, arguments: Indices, task: Index, tasks: Index) -> None:
            self._emit_gradients(code, arguments, task, tasks, wanted)

        return self._program(f"gradients {wanted}", "Gradients of the channelwise convolution.", emit)

    def _tangent_program(self, tangent: TangentCode) -> Program:
        def emit(code: Code, arguments: Indices, task: Index, tasks: Index) -> None:
            self._emit_tangent(code, arguments, task, tasks, tangent)

        kind = f"tangent {tangent.of_features}"
        return self._program(kind, "Second derivatives of the channelwise convolution.", emit)

    def _program(self, kind: str, title: str, emit: Phase) -> Program:
        if kind not in self._programs:
            self._programs[kind] = Program(title, self._key(kind), _REALS[self.dtype], [emit])
        return self._programs[kind]

    def _key(self, kind: str) -> str:
        return f"channelwise_convolution {kind} {self.tabulated} {table_hash(self.plan.table)}"

    def _tasks(self) -> int:
        return max(1, min(torch.get_num_threads(), self.plan.num_blocks))

    def _common(self, operands: tuple[Tensor, ...], derivative: int, tasks: int, scalars: int) -> list[int | Tensor]:
        """The arguments that all programs have; the list keeps copies alive until a program has run."""
        starts, senders, _, _, features, weights = arrays = [each.contiguous() for each in operands]
        nodes, edges = tile_size(starts)
        rows = torch.empty(tasks * 2 * edges, dtype=torch.int64)
        shared = features.new_empty(tasks * edges * scalars)
        return [len(starts) - 1, len(senders), len(weights), nodes, edges, derivative, *arrays, rows, shared]

    def _emit_forward(self, code: Code, arguments: Indices, task: Index, tasks: Index, add: bool) -> None:
        self._code.define_forward(code, add)
        scratch = _Scratch(arguments, task, self._code.forward_scalars)
        features, weights, output = (arguments.reals(place) for place in (_FEATURES, _WEIGHTS, _OUTPUT))

        def prepare(edge: Index, own: Index) -> None:
            harmonics = self._prepare(code, arguments, scratch, edge, own, [0])
            self._code.prologue(code, harmonics, scratch.of_edge(own))

        with self._tiles(code, arguments, prepare) as tile:
            for place, blocks in enumerate(self.plan.ranges):
                own_weights = weights.at(blocks.first * self.plan.lanes)
                with self._own_blocks(code, blocks, task, tasks) as block, tile.nodes(code) as (node, first, count):
                    self._code.call_forward(
                        code, place, block, count, *scratch.of_node(first), features, own_weights,
                        output.at(node * self.plan.table.output_dim),
                    )  # fmt: skip

    def _emit_gradients(self, code: Code, arguments: Indices, task: Index, tasks: Index, wanted: Parts) -> None:
        self._code.define_gradients(code, of_features=True, of_weights=wanted.weights, of_edges=wanted.edges)
        scratch = _Scratch(arguments, task, self._code.gradient_scalars)
        features, weights, received = (arguments.reals(place) for place in (_FEATURES, _WEIGHTS, _RECEIVED))
        of_features, of_weights = arguments.reals(_OF_FEATURES), arguments.reals(_OF_WEIGHTS)
        edge_sums = arguments.reals(_EDGE_SUMS).at(task * arguments.get(_EDGES) * self.plan.edge_slots)

        def prepare(edge: Index, own: Index) -> None:
            harmonics = self._prepare(code, arguments, scratch, edge, own, [0, 1])
            self._code.gradient_prologue(code, harmonics, scratch.of_edge(own))

        with self._tiles(code, arguments, prepare) as tile:
            for place, blocks in enumerate(self.plan.ranges):
                start = blocks.first * self.plan.lanes
                with self._own_blocks(code, blocks, task, tasks) as block, tile.nodes(code) as (node, first, count):
                    self._code.call_gradients(
                        code, place, block, count, *scratch.of_node(first), features, weights.at(start),
                        received.at(node * self.plan.table.output_dim),
                        edge_sums.at((tile.first_edge + first) * self.plan.edge_slots), of_features,
                        of_weights.at(start),
                    )  # fmt: skip

    def _emit_tangent(self, code: Code, arguments: Indices, task: Index, tasks: Index, tangent: TangentCode) -> None:
        tangent.define(code)
        scratch = _Scratch(arguments, task, tangent.scalars)
        features, weights, received = (arguments.reals(place) for place in (_FEATURES, _WEIGHTS, _RECEIVED))
        of_features, of_weights = arguments.reals(_OF_FEATURES), arguments.reals(_OF_WEIGHTS)
        output, changes = arguments.reals(_TANGENT_OUTPUT), arguments.reals(_FEATURE_CHANGES)

        def prepare(edge: Index, own: Index) -> None:
            harmonics = self._prepare(code, arguments, scratch, edge, own, [0, 1])
            shared, change = scratch.of_edge(own), arguments.reals(_PLACE_CHANGES).get(edge)
            for number in range(BASIS, 2 * BASIS):
                shared.set(number, shared.get(number) * change)
            others = arguments.reals(_HARMONIC_CHANGES).at(edge * self.plan.table.harmonics_dim)
            tangent.prologue(code, harmonics, others, shared)

        with self._tiles(code, arguments, prepare) as tile:
            for place, blocks in enumerate(self.plan.ranges):
                start = blocks.first * self.plan.lanes
                with self._own_blocks(code, blocks, task, tasks) as block, tile.nodes(code) as (node, first, count):
                    own = (code, place, block, count, *scratch.of_node(first), features, changes, weights.at(start))
                    row = node * self.plan.table.output_dim
                    tangent.call_value(*own, output.at(row))
                    tangent.call_gradients(*own, received.at(row), of_features, of_weights.at(start))

    def _prepare(
        self, code: Code, arguments: Indices, scratch: "_Scratch", edge: Index, own: Index, orders: list[int]
    ) -> Reals:
        """Write the rows and, with a table, the basis values of an edge; returns its harmonics.

        The basis is written for the table's derivative raised by each of `orders`.
        """
        sender = arguments.indices(_SENDERS).get(edge)
        scratch.feature_rows.set(own, sender * self.plan.table.input_dim)
        if not self.tabulated:
            scratch.weight_rows.set(own, edge)
        else:
            places = arguments.reals(_PLACES)
            end = arguments.get(_EDGES)
            origin, inverse_spacing = places.get(end), places.get(end + 1)
            last = arguments.get(_KNOTS) - BASIS
            interval, fraction = table_place(code, places.get(edge), origin, inverse_spacing, last)
            scratch.weight_rows.set(own, interval)
            shared = scratch.of_edge(own)
            for place, order in enumerate(orders):
                wanted = arguments.get(_DERIVATIVE) + order
                for derivative in range(_DERIVATIVES + 1):
                    relation = "==" if derivative < _DERIVATIVES else ">="
                    with code.when(wanted.compare(relation, derivative)):
                        values = spline_basis(code, fraction, inverse_spacing, derivative)
                        for column, value in enumerate(values):
                            shared.set(place * BASIS + column, value)
        return arguments.reals(_HARMONICS).at(edge * self.plan.table.harmonics_dim)

    def _tiles(
        self, code: Code, arguments: Indices, prepare: Callable[[Index, Index], None]
    ) -> AbstractContextManager[Tile]:
        return tiles(code, arguments.indices(_STARTS), arguments.get(_COUNT), arguments.get(_TILE), prepare)

    @contextmanager
    def _own_blocks(self, code: Code, blocks: BlockRange, task: Index, tasks: Index) -> Iterator[Index]:
        """A loop over the blocks of a range that are the task's."""
        start = (task * self.plan.num_blocks) // tasks
        stop = ((task + 1) * self.plan.num_blocks) // tasks
        with code.loop(start.most(blocks.first), stop.least(blocks.last)) as block:
            yield block


class _Scratch:
    """What a task notes about the edges of the tile at hand."""

    def __init__(self, arguments: Indices, task: Index, scalars: int) -> None:
        edges = arguments.get(_TILE_EDGES)
        self.feature_rows = arguments.indices(_ROWS).at(task * edges * 2)
        self.weight_rows = self.feature_rows.at(edges)
        self.scalars = arguments.reals(_SCALARS).at(task * edges * scalars)
        self._per_edge = scalars

    def of_edge(self, number: Index) -> Reals:
        """Numbers of one edge, counted from the tile's first."""
        return self.scalars.at(number * self._per_edge)

    def of_node(self, first: Index) -> tuple[Indices, Indices, Reals]:
        """Rows of features and weights, and numbers, of the edges from one on."""
        return self.feature_rows.at(first), self.weight_rows.at(first), self.of_edge(first)


def _zeros(like: Tensor, written: bool) -> Tensor:
    """Zeros, of which all are one number where nothing is written to them."""
    return torch.zeros_like(like) if written else like.new_zeros(()).expand(like.shape)
