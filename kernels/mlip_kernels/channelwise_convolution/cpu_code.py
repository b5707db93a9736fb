"""Emits the channelwise convolution and its gradients for one receiver and one block of channels.

Per receiver a prologue writes what all channels of an edge share: the basis values of the radial table, and the
combinations of harmonics (forward) or the harmonics themselves (gradients). The blocks then run over the edges with the
sums in registers. Gradients first contract the receiver's gradient with the couplings, `G_ij = sum_k C_ijk g_k`, which
are as many vectors as there are (path, i, j) and stay in the first-level cache; every edge then costs a few operations
per (path, i, j) and one transposing reduction for what is summed over channels.
"""

from dataclasses import dataclass

from mlip_kernels.channelwise_convolution.cpu_plan import BlockRange, ConvolutionPlan
from mlip_kernels.channelwise_convolution.cpu_splines import BASIS
from mlip_kernels.simd.code import Code, Index, Indices, Reals, Vector
from mlip_kernels.simd.reduction import LaneSums


@dataclass(frozen=True)
class WeightLayout:
    """Where the radial weights of a range of blocks lie.

    Attributes:
        path_offsets: Of each path's weights for the first block of the range.
        block_stride: Distance between the weights of neighbouring blocks.
        row_stride: Distance between the weights of neighbouring edges, or between neighbouring knots of a table.
    """

    path_offsets: dict[int, int]
    block_stride: int
    row_stride: int


def row_layouts(plan: ConvolutionPlan) -> list[WeightLayout]:
    """Rows of `weight_dim` weights, of one edge or of one knot each."""
    offsets = {number: path.weight_offset for number, path in enumerate(plan.table.paths)}
    return [WeightLayout(offsets, plan.lanes, plan.table.weight_dim) for _ in plan.ranges]


class ConvolutionCode:
    """Functions of a program that convolve.

    Args:
        plan: The couplings.
        layouts: Where the radial weights of each range of blocks lie.
        tabulated: Whether weights are interpolated from a table, or given for each edge.
        name: Prefix of the functions' names, unique in the program.
    """

    def __init__(self, plan: ConvolutionPlan, layouts: list[WeightLayout], tabulated: bool, name: str) -> None:
        self.plan = plan
        self.layouts = layouts
        self.name = name
        self.basis = BASIS if tabulated else 0

    @property
    def forward_scalars(self) -> int:
        """Numbers per edge that the prologue of the convolution writes."""
        return self.basis + len(self.plan.combinations)

    @property
    def gradient_scalars(self) -> int:
        """Numbers per edge that the prologue of the gradients writes."""
        return 2 * self.basis + self.plan.table.harmonics_dim

    # Forward

    def define_forward(self, code: Code, add: bool = False) -> None:
        """Define the convolution of every range of blocks, which is written, or added."""
        kinds = ["index", "index", "indices", "indices", "reals", "reals", "reals", "reals"]
        for number in range(len(self.plan.ranges)):
            with code.function(f"{self.name}_forward_{number}", kinds) as (body, arguments):
                self._forward(body, number, add, *arguments)

    def prologue(self, code: Code, harmonics: Reals, scalars: Reals) -> None:
        """Write the combinations of one edge's harmonics, after the basis values."""
        values = [harmonics.get(column) for column in range(self.plan.table.harmonics_dim)]
        for number, ((column, coefficient), *others) in enumerate(self.plan.combinations):
            total = values[column] * coefficient
            for column, coefficient in others:
                total = code.fused_real(values[column], code.number(coefficient), total)
            scalars.set(self.basis + number, total)

    def call_forward(
        self,
        code: Code,
        range_number: int,
        block: Index,
        count: Index,
        feature_rows: Indices,
        weight_rows: Indices,
        scalars: Reals,
        features: Reals,
        weights: Reals,
        output: Reals,
    ) -> None:
        """Convolve for one receiver and the block with this number, counted from 0.

        Args:
            range_number: Number of the block's range.
            count: Edges of the receiver.
            feature_rows: Offset of each edge's sender in the features.
            weight_rows: Row of each edge's weights, or of the first of its knots.
            scalars: What the prologue wrote, `forward_scalars` per edge.
            features: Atom features.
            weights: Radial weights or table, of block 0 of the range.
            output: The receiver's row of the result.
        """
        name = f"{self.name}_forward_{range_number}"
        code.call(name, block, count, feature_rows, weight_rows, scalars, features, weights, output)

    def _forward(
        self,
        code: Code,
        range_number: int,
        add: bool,
        block: Index,
        count: Index,
        feature_rows: Indices,
        weight_rows: Indices,
        scalars: Reals,
        features: Reals,
        weights: Reals,
        output: Reals,
    ) -> None:
        blocks, layout = self.plan.ranges[range_number], self.layouts[range_number]
        column = block * code.lanes
        own_weights = weights.at((block - blocks.first) * layout.block_stride)
        for group in self.plan.groups(blocks.paths):
            zero = code.broadcast(0.0)
            sums = {(path, k): code.variable(zero) for path in group for k in range(self.plan.components(path))}
            with code.loop(0, count) as edge:
                shared = scalars.at(edge * self.forward_scalars)
                sent = features.at(feature_rows.get(edge) + column)
                row = own_weights.at(weight_rows.get(edge) * layout.row_stride)
                basis = [shared.broadcast(number) for number in range(self.basis)]
                loaded: dict[int, Vector] = {}
                for path in group:
                    weight = self.weight(code, row, layout, basis, path)
                    for i in range(self.inputs(path)):
                        place = self.input_place(path, i)
                        if place not in loaded:
                            loaded[place] = sent.load(place)
                        weighted = weight * loaded[place]
                        for k in range(self.plan.components(path)):
                            if (i, k) in self.plan.filters[path]:
                                number = self.basis + self.plan.combination_number(path, i, k)
                                sums[path, k].add_product(weighted, shared.broadcast(number))
            for (path, k), total in sums.items():
                target = column + self.output_place(path, k)
                output.store(target, total.get() + output.load(target) if add else total.get())

    # Gradients

    def define_gradients(self, code: Code, of_features: bool, of_weights: bool, of_edges: bool = True) -> None:
        """Define the gradients of every range of blocks.

        Args:
            of_features: Whether to add gradients of the features.
            of_edges: Whether to add the sums of the edges.
            of_weights: Whether to give gradients of the weights, or add those of the table.
        """
        kinds = ["index", "index", "indices", "indices", *["reals"] * 7]
        for number in range(len(self.plan.ranges)):
            with code.function(f"{self.name}_gradients_{number}", kinds) as (body, arguments):
                self._gradients(body, number, (of_features, of_weights, of_edges), *arguments)

    def gradient_prologue(self, code: Code, harmonics: Reals, scalars: Reals) -> None:
        """Write one edge's harmonics, after the basis values and their derivatives."""
        for column in range(self.plan.table.harmonics_dim):
            scalars.set(2 * self.basis + column, harmonics.get(column))

    def call_gradients(
        self,
        code: Code,
        range_number: int,
        block: Index,
        count: Index,
        feature_rows: Indices,
        weight_rows: Indices,
        scalars: Reals,
        features: Reals,
        weights: Reals,
        received: Reals,
        edge_sums: Reals,
        of_features: Reals,
        of_weights: Reals,
    ) -> None:
        """Gradients of `<received, convolution>` for one receiver and one block; the first arguments as above.

        Args:
            scalars: Per edge, `gradient_scalars`: basis values, their derivatives, harmonics.
            received: The receiver's row of the gradient of the result.
            edge_sums: Added to: per edge, `plan.edge_slots` derivatives, that of the distance and of the harmonics.
            of_features: Added to: gradient of the features, with their offsets.
            of_weights: Gradient of weights or table, of block 0 of the range, with their offsets.
        """
        name = f"{self.name}_gradients_{range_number}"
        code.call(
            name, block, count, feature_rows, weight_rows, scalars, features, weights, received, edge_sums,
            of_features, of_weights,
        )  # fmt: skip

    def _gradients(
        self,
        code: Code,
        range_number: int,
        wanted: tuple[bool, bool, bool],
        block: Index,
        count: Index,
        feature_rows: Indices,
        weight_rows: Indices,
        scalars: Reals,
        features: Reals,
        weights: Reals,
        received: Reals,
        edge_sums: Reals,
        of_features: Reals,
        of_weights: Reals,
    ) -> None:
        with_features, with_weights, with_edges = wanted
        blocks, layout = self.plan.ranges[range_number], self.layouts[range_number]
        column = block * code.lanes
        from_range = (block - blocks.first) * layout.block_stride
        own_weights, own_gradients = weights.at(from_range), of_weights.at(from_range)
        contracted, places = self.contracted(code, blocks, received.at(column))
        with code.loop(0, count) as edge:
            shared = scalars.at(edge * self.gradient_scalars)
            sent = features.at(feature_rows.get(edge) + column)
            weight_row = weight_rows.get(edge) * layout.row_stride
            basis = [shared.broadcast(number) for number in range(self.basis)]
            slopes = [shared.broadcast(self.basis + number) for number in range(self.basis)]
            harmonics = shared.at(2 * self.basis)
            edge_gradient = _EdgeGradient(code, self, layout, harmonics, contracted, places, with_edges)
            for paths in self._paths_by_harmonic(blocks):
                for path in paths:
                    edge_gradient.add_path(path, sent, own_weights.at(weight_row), basis, slopes)
                    if with_weights:
                        row = own_gradients.at(weight_row)
                        self.add_weight_gradient(code, row, layout, basis, path, edge_gradient.overlap)
                edge_gradient.reduce_harmonics()
            edge_gradient.store(edge_sums.at(edge * self.plan.edge_slots))
            if with_features:
                target = of_features.at(feature_rows.get(edge) + column)
                for place, gradient in edge_gradient.of_features.items():
                    target.add(place, gradient)

    def contracted(
        self, code: Code, blocks: BlockRange, received: Reals
    ) -> tuple[Reals, dict[tuple[int, int, int], int]]:
        """`sum_k C_ijk g_k` of every (path, i, j), and where each stands."""
        terms: dict[tuple[int, int, int], list[tuple[int, float]]] = {}
        for path in blocks.paths:
            for i, j, k, value in self.plan.entries[path]:
                terms.setdefault((path, i, j), []).append((k, value))
        contracted = code.scratch(len(terms) * code.lanes)
        places = {}
        loaded: dict[tuple[int, int], Vector] = {}
        for number, ((path, i, j), parts) in enumerate(terms.items()):
            total = None
            for k, value in parts:
                if (path, k) not in loaded:
                    loaded[path, k] = received.load(self.output_place(path, k))
                factor = code.broadcast(value)
                gradient = loaded[path, k]
                total = gradient * factor if total is None else code.fused(gradient, factor, total)
            assert total is not None
            places[path, i, j] = number * code.lanes
            contracted.store(number * code.lanes, total)
        return contracted, places

    def add_weight_gradient(
        self, code: Code, row: Reals, layout: WeightLayout, basis: list[Vector], path: int, overlap: Vector
    ) -> None:
        """Write the gradient of a path's weight, or add it, times the basis, to that of the table."""
        offset = layout.path_offsets[path]
        if not basis:
            row.store(offset, overlap)
        for number, value in enumerate(basis):
            place = offset + number * layout.row_stride
            row.store(place, code.fused(value, overlap, row.load(place)))

    # What both share

    def weight(self, code: Code, row: Reals, layout: WeightLayout, basis: list[Vector], path: int) -> Vector:
        """The weight of a path, or its derivative where `basis` holds derivatives."""
        offset = layout.path_offsets[path]
        if not basis:
            return row.load(offset)
        total = basis[0] * row.load(offset)
        for number in range(1, BASIS):
            total = code.fused(basis[number], row.load(offset + number * layout.row_stride), total)
        return total

    def inputs(self, path: int) -> int:
        """Components of a path's features."""
        return int(self.plan.table.paths[path].coefficients.shape[0])

    def input_place(self, path: int, i: int) -> int:
        """Offset of a component of a path's features, of block 0."""
        entry = self.plan.table.paths[path]
        return entry.input_offset + i * entry.channels

    def output_place(self, path: int, k: int) -> int:
        """Offset of a component of a path's result, of block 0."""
        entry = self.plan.table.paths[path]
        return entry.output_offset + k * entry.output_channels + entry.output_channel

    def _paths_by_harmonic(self, blocks: BlockRange) -> list[list[int]]:
        """Paths by falling degree of the harmonic, so that few sums over channels are open at a time."""
        offsets = sorted({self.plan.table.paths[path].harmonic_offset for path in blocks.paths}, reverse=True)
        return [
            [path for path in blocks.paths if self.plan.table.paths[path].harmonic_offset == offset]
            for offset in offsets
        ]


class _EdgeGradient:
    """Gradients of one edge and block, path by path."""

    def __init__(
        self,
        code: Code,
        convolution: ConvolutionCode,
        layout: WeightLayout,
        harmonics: Reals,
        contracted: Reals,
        places: dict[tuple[int, int, int], int],
        with_edges: bool,
    ) -> None:
        self._with_edges = with_edges
        self._code = code
        self._convolution = convolution
        self._layout = layout
        self._harmonics = harmonics
        self._contracted = contracted
        self._places = places
        self._loaded: dict[int, Vector] = {}
        self._of_harmonics: dict[int, Vector] = {}
        self._of_distance: Vector | None = None
        self._sums: dict[int, LaneSums] = {}
        self.of_features: dict[int, Vector] = {}
        self.overlap = code.broadcast(0.0)

    def add_path(self, path: int, sent: Reals, row: Reals, basis: list[Vector], slopes: list[Vector]) -> None:
        """Add a path's part to all gradients; `overlap` is then that of its weight."""
        code, convolution = self._code, self._convolution
        weight = convolution.weight(code, row, self._layout, basis, path)
        overlap: Vector | None = None
        for i in range(convolution.inputs(path)):
            place = convolution.input_place(path, i)
            if place not in self._loaded:
                self._loaded[place] = sent.load(place)
            feature = self._loaded[place]
            weighted = weight * feature
            taken: Vector | None = None
            for (number, row_i, j), where in self._places.items():
                if number != path or row_i != i:
                    continue
                vector = self._contracted.load(where)
                harmonic = self._harmonics.broadcast(j)
                taken = harmonic * vector if taken is None else code.fused(harmonic, vector, taken)
                if self._with_edges and (j or not slopes):
                    self._of_harmonics[j] = _sum(code, weighted, vector, self._of_harmonics.get(j))
            if taken is None:
                continue
            self.of_features[place] = _sum(code, weight, taken, self.of_features.get(place))
            overlap = _sum(code, feature, taken, overlap)
        self.overlap = overlap if overlap is not None else code.broadcast(0.0)
        if slopes and self._with_edges:
            slope = convolution.weight(code, row, self._layout, slopes, path)
            self._of_distance = _sum(code, slope, self.overlap, self._of_distance)

    def reduce_harmonics(self) -> None:
        """Take the derivatives by the harmonics so far, which are complete, into the sums over channels."""
        for slot in sorted(self._of_harmonics, reverse=True):
            self._reduce(slot, self._of_harmonics.pop(slot))

    def store(self, sums: Reals) -> None:
        """Add the sums over the channels of the block to those of the edge."""
        if self._of_distance is not None:
            self._reduce(0, self._of_distance)
        for part, reduction in self._sums.items():
            sums.add(part * self._code.lanes, reduction.result())

    def _reduce(self, slot: int, vector: Vector) -> None:
        part, lane = divmod(slot, self._code.lanes)
        self._sums.setdefault(part, LaneSums()).add(lane, vector)


def _sum(code: Code, first: Vector, second: Vector, total: Vector | None) -> Vector:
    return first * second if total is None else code.fused(first, second, total)
