"""Emits what a layer does to the rows of a tile, and the gradients: maps of channels, products, gates, readouts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from mlip_kernels.inference.memory import Space, Tile, Weights
from mlip_kernels.inference.spec import ChannelMap, Contraction, Gate, MapBlock, Readout
from mlip_kernels.simd.code import Code, Index, Real, Reals, Vector
from mlip_kernels.simd.functions import silu, tanh
from mlip_kernels.simd.matrix import Rows, define_product, multiply
from mlip_kernels.simd.reduction import lane_sum
from mlip_kernels.symmetric_contraction.cpu_code import ContractionCode, ContractionLayout
from mlip_kernels.symmetric_contraction.cpu_plan import ContractionPlan

_ACTIVATIONS = {"silu": silu, "tanh": tanh}


@dataclass(frozen=True)
class TileRows:
    """Rows of the tile's atoms: an array whose first row is the tile's first, with the columns of a row."""

    values: Reals
    dim: int

    def row(self, number: Index) -> Reals:
        """Row of an atom, counted from the tile's first."""
        return self.values.at(number * self.dim)


@contextmanager
def element_groups(space: Space, tile: Tile) -> Iterator[tuple[Index, Index, Index]]:
    """A loop over the tile's runs of atoms of one element: first atom, counted from the tile's, number, element."""
    starts, groups = space.arguments.indices("group_starts"), space.arguments.indices("groups")
    with space.code.loop(starts.get(tile.number), starts.get(tile.number + 1)) as group:
        yield groups.get(group * 3), groups.get(group * 3 + 1), groups.get(group * 3 + 2)


class MapSteps:
    """A map of channels and its transpose."""

    def __init__(self, spec: ChannelMap, weights: Weights) -> None:
        self.spec = spec
        self._matrices = [weights.add(block.matrix) for block in spec.blocks]
        self._transposed = [weights.add(np.swapaxes(block.matrix, -1, -2)) for block in spec.blocks]

    def define(self, code: Code) -> None:
        """Define the matrix products it needs."""
        for block in self.spec.blocks:
            define_product(code, block.matrix.shape[-1])
            define_product(code, block.matrix.shape[-2])

    def forward(self, space: Space, tile: Tile, source: TileRows, target: TileRows, add: bool) -> None:
        """Write the mapped rows, or add them."""
        if not add:
            self._clear(
                space, tile, target, [(b.output_offset, b.components * b.matrix.shape[-1]) for b in self.spec.blocks]
            )
        for block, matrix in zip(self.spec.blocks, self._matrices, strict=True):
            inner, columns = block.matrix.shape[-2:]
            places = (block.input_offset, inner), (block.output_offset, columns)
            self._multiply(space, tile, block, matrix, source, target, places, add)

    def backward(self, space: Space, tile: Tile, received: TileRows, gradient: TileRows, add: bool) -> None:
        """Write the gradient of the source, or add it."""
        if not add:
            self._clear(
                space, tile, gradient, [(b.input_offset, b.components * b.matrix.shape[-2]) for b in self.spec.blocks]
            )
        for block, matrix in zip(self.spec.blocks, self._transposed, strict=True):
            columns, inner = block.matrix.shape[-2:]
            places = (block.output_offset, inner), (block.input_offset, columns)
            self._multiply(space, tile, block, matrix, received, gradient, places, add)

    def _multiply(
        self,
        space: Space,
        tile: Tile,
        block: MapBlock,
        matrix: int,
        source: TileRows,
        target: TileRows,
        places: tuple[tuple[int, int], tuple[int, int]],
        add: bool,
    ) -> None:
        (source_offset, inner), (target_offset, columns) = places
        code = space.code

        def products(first: Index, rows: Index, weights: Reals) -> None:
            for component in range(block.components):
                left = source.row(first).at(source_offset + component * inner)
                right = target.row(first).at(target_offset + component * columns)
                multiply(code, Rows(left, source.dim), weights, Rows(right, target.dim), rows, inner, columns, add)

        if not self.spec.per_element:
            products(code.index(0), tile.rows, space.weights.at(matrix))
            return
        with element_groups(space, tile) as (first, rows, element):
            products(first, rows, space.weights.at(element * (inner * columns) + matrix))

    @staticmethod
    def _clear(space: Space, tile: Tile, rows: TileRows, written: list[tuple[int, int]]) -> None:
        """Set columns that no product writes to zero."""
        end = 0
        for start, width in [*sorted(written), (rows.dim, 0)]:
            if start > end:
                with space.code.loop(0, tile.rows) as number:
                    rows.row(number).at(end).clear(start - end)
            end = max(end, start + width)


class ContractionSteps:
    """Many-body products and their gradients."""

    def __init__(self, spec: Contraction, lanes: int, weights: Weights, name: str) -> None:
        plan = ContractionPlan(spec.table)
        elements, rows, channels = spec.coefficients.shape
        self._blocks = channels // lanes
        self._rows = rows
        self._lanes = lanes
        blocked = spec.coefficients.reshape(elements, rows, self._blocks, lanes).transpose(0, 2, 1, 3)
        self._coefficients = weights.add(blocked)
        outputs = tuple(component * channels for component in range(plan.num_outputs))
        self._code = ContractionCode(plan, ContractionLayout(channels, lanes, outputs), name)
        self._name = name

    def define(self, code: Code) -> None:
        """Define the functions of one atom and block."""
        self._code.define_forward(code)
        self._code.define_gradients(code, of_coefficients=False)

    def forward(self, space: Space, tile: Tile, source: TileRows, target: TileRows) -> None:
        """Write the products of every atom."""
        with self._atoms(space, tile) as (atom, column, coefficients):
            code = space.code
            code.call(f"{self._name}_forward", source.row(atom).at(column), coefficients, target.row(atom).at(column))

    def backward(self, space: Space, tile: Tile, source: TileRows, received: TileRows, gradient: TileRows) -> None:
        """Write the gradient of the source."""
        with self._atoms(space, tile) as (atom, column, coefficients):
            rows = [each.row(atom).at(column) for each in (source, received, gradient)]
            # There are no gradients of coefficients; any address does.
            space.code.call(f"{self._name}_gradients", rows[0], coefficients, rows[1], rows[2], rows[2])

    @contextmanager
    def _atoms(self, space: Space, tile: Tile) -> Iterator[tuple[Index, Index, Reals]]:
        """A loop over blocks, and over atoms for each, so that the coefficients of a block stay at hand."""
        code = space.code
        with code.loop(0, self._blocks) as block, element_groups(space, tile) as (first, rows, element):
            start = (element * self._blocks + block) * (self._rows * self._lanes)
            coefficients = space.weights.at(start + self._coefficients)
            with code.loop(first, first + rows) as atom:
                yield atom, block * self._lanes, coefficients


class GateSteps:
    """A gate and its gradient."""

    def __init__(self, spec: Gate) -> None:
        self.spec = spec

    def define(self, code: Code) -> None:
        """It needs no functions."""

    def forward(self, space: Space, tile: Tile, source: TileRows, target: TileRows) -> None:
        """Write the activated rows."""
        code = space.code
        with code.loop(0, tile.rows) as atom:
            given, result = source.row(atom), target.row(atom)
            for scalar in self.spec.activated:
                with code.loop(0, scalar.channels, code.lanes) as channel:
                    value, _ = _ACTIVATIONS[scalar.activation](given.load(channel + scalar.input_offset))
                    result.store(channel + scalar.output_offset, value * scalar.scale)
            for block in self.spec.gated:
                with code.loop(0, block.channels, code.lanes) as channel:
                    factor = silu(given.load(channel + block.gate_offset))[0] * block.scale
                    for component in range(block.components):
                        place = channel + component * block.channels
                        result.store(place + block.output_offset, given.load(place + block.input_offset) * factor)

    def backward(self, space: Space, tile: Tile, source: TileRows, received: TileRows, gradient: TileRows) -> None:
        """Write the gradient of the source."""
        code = space.code
        with code.loop(0, tile.rows) as atom:
            given, above, below = (each.row(atom) for each in (source, received, gradient))
            for scalar in self.spec.activated:
                with code.loop(0, scalar.channels, code.lanes) as channel:
                    _, slope = _ACTIVATIONS[scalar.activation](given.load(channel + scalar.input_offset))
                    own = above.load(channel + scalar.output_offset)
                    below.store(channel + scalar.input_offset, own * slope * scalar.scale)
            for block in self.spec.gated:
                with code.loop(0, block.channels, code.lanes) as channel:
                    factor, slope = silu(given.load(channel + block.gate_offset))
                    overlap = code.broadcast(0.0)
                    for component in range(block.components):
                        place = channel + component * block.channels
                        own = above.load(place + block.output_offset)
                        overlap = code.fused(own, given.load(place + block.input_offset), overlap)
                        below.store(place + block.input_offset, own * factor * block.scale)
                    below.store(channel + block.gate_offset, overlap * slope * block.scale)


class ReadoutSteps:
    """Energy and further outputs of an atom from scalars of a row, and their gradients."""

    def __init__(self, spec: Readout, scales: int, lanes: int, weights: Weights) -> None:
        self.spec = spec
        self._scales = scales
        self._outputs = [weights.add(output) for output in spec.outputs]
        self._hidden = None if spec.hidden is None else weights.add(spec.hidden)
        self._transposed = None if spec.hidden is None else weights.add(spec.hidden.T)
        self.units = 0 if spec.hidden is None else spec.hidden.shape[1]

    @property
    def channels(self) -> int:
        """Scalars that are read."""
        return int(self.spec.outputs.shape[1] if self.spec.hidden is None else self.spec.hidden.shape[0])

    def define(self, code: Code) -> None:
        """Define the matrix products it needs."""
        if self.units:
            define_product(code, self.units)
            define_product(code, self.channels)

    def forward(self, space: Space, tile: Tile, rows: TileRows, units: TileRows) -> None:
        """Add the energies, times the factor of each atom's element, and further outputs; `units` is scratch."""
        code = space.code
        if self._hidden is not None:
            left = Rows(rows.values.at(self.spec.offset), rows.dim)
            hidden = space.weights.at(self._hidden)
            multiply(code, left, hidden, Rows(units.values, units.dim), tile.rows, self.channels, self.units)
        energies = space.arguments.reals("energies")
        outputs = [space.weights.at(output) for output in self._outputs]
        with code.loop(0, tile.rows) as number:
            totals = [code.broadcast(0.0) for _ in outputs]
            for place in range(0, self.spec.outputs.shape[1], code.lanes):
                if self._hidden is None:
                    value = rows.row(number).load(place + self.spec.offset)
                else:
                    value, _ = silu(units.row(number).load(place))
                totals = [
                    code.fused(value, output.load(place), total) for output, total in zip(outputs, totals, strict=True)
                ]
            atom = tile.first + number
            energies.set(atom, energies.get(atom) + lane_sum(totals[0]) * self._scale(space, atom))
            further = self._of_atom(space, "further", atom)
            for column, total in enumerate(totals[1:]):
                further.set(column, further.get(column) + lane_sum(total))

    def backward(self, space: Space, tile: Tile, rows: TileRows, units: TileRows, gradient: TileRows) -> None:
        """Add the gradient of the energies to that of the rows; `units` is scratch.

        Energies depend on further outputs by the slopes that are given.
        """
        code = space.code
        if self._hidden is None or self._transposed is None:
            with code.loop(0, tile.rows) as number:
                slopes = self._slopes(space, tile.first + number)
                for place in range(0, self.channels, code.lanes):
                    gradient.row(number).add(place + self.spec.offset, self._received(space, slopes, place))
            return
        left = Rows(rows.values.at(self.spec.offset), rows.dim)
        multiply(
            code,
            left,
            space.weights.at(self._hidden),
            Rows(units.values, units.dim),
            tile.rows,
            self.channels,
            self.units,
        )
        with code.loop(0, tile.rows) as number:
            slopes = self._slopes(space, tile.first + number)
            for place in range(0, self.units, code.lanes):
                _, slope = silu(units.row(number).load(place))
                units.row(number).store(place, slope * self._received(space, slopes, place))
        target = Rows(gradient.values.at(self.spec.offset), gradient.dim)
        transposed = space.weights.at(self._transposed)
        multiply(
            code, Rows(units.values, units.dim), transposed, target, tile.rows, self.units, self.channels, add=True
        )

    def _slopes(self, space: Space, atom: Index) -> list[Vector]:
        """Derivatives of an atom's energy for its outputs."""
        code, given = space.code, self._of_atom(space, "of_further", atom)
        further = [given.broadcast(column) for column in range(len(self._outputs) - 1)]
        return [code.broadcast(self._scale(space, atom)), *further]

    def _received(self, space: Space, slopes: Sequence[Vector], place: int) -> Vector:
        """Gradient of a vector of what is read, from those of the outputs."""
        total, *rest = (
            space.weights.at(output).load(place) * slope for output, slope in zip(self._outputs, slopes, strict=True)
        )
        for each in rest:
            total = total + each
        return total

    def _of_atom(self, space: Space, name: str, atom: Index) -> Reals:
        """An atom's row of an array of further outputs."""
        return space.arguments.reals(name).at(atom * (len(self._outputs) - 1))

    def _scale(self, space: Space, atom: Index) -> Real:
        element = space.arguments.indices("elements").get(atom)
        return space.weights.get(element + self._scales)
