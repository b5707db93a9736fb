"""Emits the layers of a network: forward and backward for one tile of atoms.

Each layer has rows of its own, by name: those that another phase reads are arrays of all atoms, the others live in the
scratch memory of the task.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlip_kernels.channelwise_convolution.cpu_code import (
    ConvolutionCode,
    WeightLayout,
)
from mlip_kernels.channelwise_convolution.cpu_plan import ConvolutionPlan, table_hash
from mlip_kernels.channelwise_convolution.cpu_splines import BASIS
from mlip_kernels.inference.memory import Space, Tile, Weights
from mlip_kernels.inference.normalisation import KnotPlaces, NormalisationSteps
from mlip_kernels.inference.spec import Array, Contraction, Layer, Network
from mlip_kernels.inference.steps import ContractionSteps, GateSteps, MapSteps, ReadoutSteps, TileRows
from mlip_kernels.simd.code import Code, Index, Reals

# Writes what the channels of an edge share: code, harmonics of the edge, and where to write.
Prologue = Callable[[Code, Reals, Reals], None]


@dataclass(frozen=True)
class LayerRole:
    """Where a layer stands: the first takes features of elements, the last goes on with its own gradients."""

    number: int
    first: bool
    last: bool


class LayerCode:
    """One layer.

    Args:
        spec: What it computes.
        network: The network it belongs to.
        role: Where it stands.
        plan: Couplings of its convolution.
        scales: Offset of the elements' energy factors in the weights.
        features: Offset of the first layer's features in the weights.
        weights: Takes the layer's constants.
    """

    def __init__(
        self,
        spec: Layer,
        network: Network,
        role: LayerRole,
        plan: ConvolutionPlan,
        scales: int,
        features: int,
        weights: Weights,
    ) -> None:
        self.spec = spec
        self.network = network
        self.role = role
        self.plan = plan
        self.name = f"layer_{role.number}"
        self._features = features
        self._knots = len(spec.table)
        layouts, self._tables = _blocked_table(plan, spec.table, weights)
        kind = "constant" if role.first else "atoms"
        name = f"convolution_{table_hash(plan.table)[:16]}_{self._knots}_{kind}"
        self.convolution = ConvolutionCode(plan, layouts, True, name)
        self.down = MapSteps(spec.down, weights)
        self.normalisation = None
        if spec.density is not None:
            knots = KnotPlaces(network.origin, network.spacing, self._knots)
            self.normalisation = NormalisationSteps(spec.density, knots, plan.edge_slots, weights)
        self.message = None if spec.message is None else MapSteps(spec.message, weights)
        if isinstance(spec.product, Contraction):
            self.product: ContractionSteps | GateSteps = ContractionSteps(
                spec.product, plan.lanes, weights, f"{self.name}_contraction"
            )
        else:
            self.product = GateSteps(spec.product)
        self.out = None if spec.out is None else MapSteps(spec.out, weights)
        self.residual = None if spec.residual is None else MapSteps(spec.residual, weights)
        self.constants = None if spec.residual_constants is None else weights.add(spec.residual_constants)
        self.readout = None if spec.readout is None else ReadoutSteps(spec.readout, scales, plan.lanes, weights)
        self.up = None if spec.up is None else MapSteps(spec.up, weights)
        self.rows = self._own_rows()
        starts = np.cumsum([0, *self.rows.values()])
        # Places in the scratch memory; what is kept for all atoms leaves its own unused.
        self.scratch_places = dict(zip(self.rows, (int(start) for start in starts), strict=False))
        self.scratch_columns = int(starts[-1])

    # Rows

    def _own_rows(self) -> dict[str, int]:
        """Columns of each row of the layer."""
        spec = self.spec
        product_out = _product_columns(spec)
        rows = {
            "convolved": self.plan.table.output_dim,
            "density": spec.down.output_dim,
            "product": product_out,
            "features": product_out if spec.out is None else spec.out.output_dim,
        }
        if spec.message is not None:
            rows["message"] = spec.down.output_dim
        if spec.up is not None:
            rows["sent"] = spec.up.output_dim
        rows |= {f"of_{name}": columns for name, columns in rows.items()}
        if spec.up is not None:
            rows["summed"] = spec.up.output_dim
        if spec.density is not None:
            rows["divisor"] = 1
        if self.readout is not None:
            rows["units"] = max(1, self.readout.units)
        return rows

    @property
    def residual_before(self) -> bool:
        """Whether the residual enters before the product, as with gates, or after."""
        return not isinstance(self.spec.product, Contraction)

    def atom_arrays(self, following: "LayerCode | None") -> dict[str, int]:
        """Rows that other phases read, by name: columns. The gradient of what is sent has a copy for each task."""
        if following is None:
            return {}
        names = ["density", "sent", "of_sent"]
        if self.normalisation is not None:
            names.append("divisor")
        if following.residual is not None:
            names += ["features", "of_features"]
        elif self.readout is not None and self.readout.units:
            names.append("features")
        return {f"{self.name}_{name}": self.rows[name] for name in names}

    @property
    def edge_scalars(self) -> int:
        """Numbers per edge of one atom."""
        return max(self.convolution.forward_scalars, self.convolution.gradient_scalars)

    # Code

    def define(self, code: Code) -> None:
        """Define the functions that the phases need; layers of equal convolutions share theirs."""
        if f"{self.convolution.name}_gradients_0" not in code.functions:
            self.convolution.define_forward(code)
            self.convolution.define_gradients(code, of_features=not self.role.first, of_weights=False)
        for part in (self.down, self.message, self.product, self.out, self.residual, self.readout, self.up):
            if part is not None:
                part.define(code)

    def forward(self, space: Space, tile: Tile, rows: "LayerRows", previous: "LayerRows | None") -> None:
        """From the features sent by the layer before to those that this one sends."""
        self._convolve(space, tile, rows, previous)
        density = rows["density"]
        messages = density if self.message is None else rows["message"]
        self.down.forward(space, tile, rows["convolved"], messages, add=False)
        if self.normalisation is not None:
            self.normalisation.forward(space, tile, messages, rows["divisor"])
        if self.message is not None:
            self.message.forward(space, tile, messages, density, add=False)
        if self.residual_before:
            self._add_residual(space, tile, density, previous)
        features = rows["features"]
        if self.out is None:
            self.product.forward(space, tile, density, features)
        else:
            self.product.forward(space, tile, density, rows["product"])
            self.out.forward(space, tile, rows["product"], features, add=False)
        if not self.residual_before:
            self._add_residual(space, tile, features, previous)
        if self.up is not None:
            self.up.forward(space, tile, features, rows["sent"], add=False)

    def add_outputs(self, space: Space, tile: Tile, rows: "LayerRows") -> None:
        """The layer's part of energies and further outputs."""
        if self.readout is not None:
            self.readout.forward(space, tile, rows["features"], rows["units"])

    def begin_backward(self, space: Space, tile: Tile, rows: "LayerRows", residual: bool) -> None:
        """Gradient of the layer's features from what the layers after it left: a residual's, and of what was sent."""
        code = space.code
        gradient = rows["of_features"]
        if self.up is None:
            gradient.values.clear(tile.rows * gradient.dim)
            return
        total = rows["summed"]
        size = tile.rows * total.dim
        copies = rows.all_atoms("of_sent").at(tile.first * total.dim)
        stride = space.arguments.count("atoms") * total.dim
        with code.loop(0, size, code.lanes) as place:
            sum_of_copies = code.variable(copies.load(place))
            with code.loop(1, space.tasks) as task:
                sum_of_copies.add(copies.load(task * stride + place))
            total.values.store(place, sum_of_copies.get())
        self.up.backward(space, tile, total, gradient, add=residual)

    def backward(self, space: Space, tile: Tile, rows: "LayerRows", previous: "LayerRows | None") -> None:
        """From the gradient of the layer's features to those of its edges and of the features it was sent."""
        gradient = rows["of_features"]
        if self.readout is not None:
            self.readout.backward(space, tile, rows["features"], rows["units"], gradient)
        if not self.residual_before:
            self._residual_gradient(space, tile, gradient, previous)
        of_density = rows["of_density"]
        if self.out is None:
            self.product.backward(space, tile, rows["density"], gradient, of_density)
        else:
            self.out.backward(space, tile, gradient, rows["of_product"], add=False)
            self.product.backward(space, tile, rows["density"], rows["of_product"], of_density)
        if self.residual_before:
            self._residual_gradient(space, tile, of_density, previous)
        if self.normalisation is not None:
            self.normalisation.backward(space, tile, rows["density"], of_density, rows["divisor"])
        of_messages = of_density
        if self.message is not None:
            of_messages = rows["of_message"]
            self.message.backward(space, tile, of_density, of_messages, add=False)
        self.down.backward(space, tile, of_messages, rows["of_convolved"], add=False)
        self._convolution_gradients(space, tile, rows, previous)

    def _add_residual(self, space: Space, tile: Tile, target: TileRows, previous: "LayerRows | None") -> None:
        if self.residual is not None and previous is not None:
            self.residual.forward(space, tile, previous["features"], target, add=True)
        if self.constants is not None:
            code = space.code
            elements = space.arguments.indices("elements")
            with code.loop(0, tile.rows) as number:
                element = elements.get(tile.first + number)
                constants = space.weights.at(element * target.dim + self.constants)
                with code.loop(0, target.dim, code.lanes) as column:
                    target.row(number).add(column, constants.load(column))

    def _residual_gradient(self, space: Space, tile: Tile, received: TileRows, previous: "LayerRows | None") -> None:
        if self.residual is not None and previous is not None:
            self.residual.backward(space, tile, received, previous["of_features"], add=False)

    # Convolution

    def _convolve(self, space: Space, tile: Tile, rows: "LayerRows", previous: "LayerRows | None") -> None:
        code = space.code
        features = space.weights.at(self._features) if previous is None else previous.all_atoms("sent")
        edges = EdgeScratch(space, self.convolution.forward_scalars)
        with code.loop(0, tile.rows) as number:
            _, count = self._prepare(space, edges, tile.first + number, [0], self.convolution.prologue)
            row = rows["convolved"].row(number)
            for place, blocks in enumerate(self.plan.ranges):
                table = space.weights.at(self._tables[place])
                with code.loop(blocks.first, blocks.last) as block:
                    self.convolution.call_forward(
                        code, place, block, count, edges.feature_rows, edges.weight_rows, edges.scalars, features,
                        table, row,
                    )  # fmt: skip

    def _convolution_gradients(self, space: Space, tile: Tile, rows: "LayerRows", previous: "LayerRows | None") -> None:
        code = space.code
        features = space.weights.at(self._features) if previous is None else previous.all_atoms("sent")
        # The first layer's features are constants; nothing is written there.
        of_features = features if previous is None else previous.own_copy("of_sent")
        edges = EdgeScratch(space, self.convolution.gradient_scalars)
        edge_sums = space.arguments.reals("edge_sums")
        with code.loop(0, tile.rows) as number:
            atom = tile.first + number
            first, count = self._prepare(space, edges, atom, [0, 1], self.convolution.gradient_prologue)
            row = rows["of_convolved"].row(number)
            sums = edge_sums.at(first * self.plan.edge_slots)
            for place, blocks in enumerate(self.plan.ranges):
                table = space.weights.at(self._tables[place])
                with code.loop(blocks.first, blocks.last) as block:
                    # Tables have no gradients here; any address does.
                    self.convolution.call_gradients(
                        code, place, block, count, edges.feature_rows, edges.weight_rows, edges.scalars, features,
                        table, row, sums, of_features, table,
                    )  # fmt: skip

    def _prepare(
        self, space: Space, edges: "EdgeScratch", atom: Index, orders: list[int], prologue: Prologue
    ) -> tuple[Index, Index]:
        """Note what the channels of an atom's edges share; returns its first edge and their number."""
        code, arguments = space.code, space.arguments
        senders, elements = arguments.indices("kept_senders"), arguments.indices("elements")
        first, count = arguments.indices("starts").get(atom), arguments.indices("kept").get(atom)
        distances, harmonics = arguments.reals("distances"), arguments.reals("harmonics")
        knots = KnotPlaces(self.network.origin, self.network.spacing, self._knots)
        with code.loop(0, count) as number:
            edge = first + number
            source = senders.get(edge)
            if self.role.first:
                source = elements.get(source)
            edges.feature_rows.set(number, source * self.plan.table.input_dim)
            interval, values = knots.at(code, distances.get(edge), orders)
            edges.weight_rows.set(number, interval)
            shared = edges.of_edge(number)
            for place, of_order in enumerate(values):
                for column, value in enumerate(of_order):
                    shared.set(place * BASIS + column, value)
            prologue(code, harmonics.at(edge * self.plan.table.harmonics_dim), shared)
        return first, count


class LayerRows:
    """Rows of a layer for the atoms of a tile, by name; `of_…` are gradients.

    Args:
        layer: The layer.
        space: Arguments and scratch memory.
        tile: The tile.
        arrays: Columns of the arrays of all atoms.
    """

    def __init__(self, layer: LayerCode, space: Space, tile: Tile, arrays: dict[str, int]) -> None:
        self._layer = layer
        self._space = space
        self._tile = tile
        self._arrays = arrays

    def __getitem__(self, name: str) -> TileRows:
        columns = self._layer.rows[name]
        full = f"{self._layer.name}_{name}"
        if full in self._arrays:
            return TileRows(self._space.arguments.reals(full).at(self._tile.first * columns), columns)
        start = self._space.arguments.count("tile_rows") * self._layer.scratch_places[name]
        return TileRows(self._space.scratch.at(start), columns)

    def all_atoms(self, name: str) -> Reals:
        """The rows of all atoms."""
        return self._space.arguments.reals(f"{self._layer.name}_{name}")

    def own_copy(self, name: str) -> Reals:
        """The task's own copy of the rows of all atoms."""
        size = self._space.arguments.count("atoms") * self._layer.rows[name]
        return self.all_atoms(name).at(self._space.task * size)


class EdgeScratch:
    """What a task notes about the edges of the atom at hand."""

    def __init__(self, space: Space, scalars: int) -> None:
        degree = space.arguments.count("degree")
        self.feature_rows = space.arguments.indices("rows").at(space.task * degree * 2)
        self.weight_rows = self.feature_rows.at(degree)
        self.scalars = space.arguments.reals("edge_scratch").at(space.task * space.arguments.count("edge_scratch_size"))
        self._scalars = scalars

    def of_edge(self, number: Index) -> Reals:
        """Numbers of one edge, counted from the atom's first."""
        return self.scalars.at(number * self._scalars)


def _blocked_table(plan: ConvolutionPlan, table: Array, weights: Weights) -> tuple[list[WeightLayout], list[int]]:
    """The radial table as [block, knot, path, lane] for each range of blocks, so that what a block reads is dense."""
    layouts, places = [], []
    for blocks in plan.ranges:
        count = len(blocks.paths)
        columns = np.array(
            [
                [
                    plan.table.paths[path].weight_offset + block * plan.lanes + lane
                    for path in blocks.paths
                    for lane in range(plan.lanes)
                ]
                for block in range(blocks.first, blocks.last)
            ]
        )
        places.append(weights.add(table[:, columns].transpose(1, 0, 2)))
        offsets = {path: number * plan.lanes for number, path in enumerate(blocks.paths)}
        row = count * plan.lanes
        layouts.append(WeightLayout(offsets, len(table) * row, row))
    return layouts, places


def _product_columns(spec: Layer) -> int:
    product = spec.product
    if isinstance(product, Contraction):
        return sum(product.table.output_components) * product.channels
    return product.output_dim
