"""Emits functions of the distance from the radial tables, and the division of messages by a density of neighbours."""

from dataclasses import dataclass

from mlip_kernels.channelwise_convolution.cpu_splines import BASIS, spline_basis, table_place
from mlip_kernels.inference.memory import Space, Tile, Weights
from mlip_kernels.inference.spec import DensityNormalisation
from mlip_kernels.inference.steps import TileRows
from mlip_kernels.simd.code import Code, Index, Real, Reals
from mlip_kernels.simd.reduction import lane_sum


@dataclass(frozen=True)
class KnotPlaces:
    """Where the knots of the radial tables stand.

    Attributes:
        origin: Distance of the first knot, Å.
        spacing: Of the knots, Å.
        knots: Number of knots.
    """

    origin: float
    spacing: float
    knots: int

    def at(self, code: Code, distance: Real, orders: list[int]) -> tuple[Index, list[list[Real]]]:
        """The interval of a distance, and the splines there, or derivatives of theirs, for each order."""
        inverse = code.number(1.0 / self.spacing)
        last = code.index(self.knots - BASIS)
        interval, fraction = table_place(code, distance, code.number(self.origin), inverse, last)
        return interval, [spline_basis(code, fraction, inverse, order) for order in orders]


class NormalisationSteps:
    """Division by `1 + sum of f(r)` over an atom's edges.

    Args:
        spec: The function.
        knots: Of its table.
        edge_slots: Sums per edge, the first of which is the derivative by the distance.
        weights: Takes the table.
    """

    def __init__(self, spec: DensityNormalisation, knots: KnotPlaces, edge_slots: int, weights: Weights) -> None:
        self._table = weights.add(spec.table)
        self._knots = knots
        self._edge_slots = edge_slots

    def forward(self, space: Space, tile: Tile, messages: TileRows, divisor: TileRows) -> None:
        """Divide the messages, and keep the inverse divisor."""
        code, table = space.code, space.weights.at(self._table)
        with code.loop(0, tile.rows) as number:
            total = code.variable(code.number(1.0))
            first, count = _edges(space, tile.first + number)
            with code.loop(first, first + count) as edge:
                total.add(self._interpolated(code, table, space.arguments.reals("distances").get(edge), 0))
            inverse = 1.0 / total.get()
            divisor.row(number).set(0, inverse)
            _scale(code, messages.row(number), messages.dim, inverse)

    def backward(self, space: Space, tile: Tile, result: TileRows, received: TileRows, divisor: TileRows) -> None:
        """Divide the gradient, and add the derivatives by the distances.

        `result` may be the messages after a linear map too, if `received` is the gradient of the same.
        """
        code, table = space.code, space.weights.at(self._table)
        edge_sums = space.arguments.reals("edge_sums")
        with code.loop(0, tile.rows) as number:
            overlap = code.variable(code.broadcast(0.0))
            with code.loop(0, result.dim, code.lanes) as column:
                overlap.add_product(result.row(number).load(column), received.row(number).load(column))
            inverse = divisor.row(number).get(0)
            change = lane_sum(overlap.get()) * inverse
            first, count = _edges(space, tile.first + number)
            with code.loop(first, first + count) as edge:
                slope = self._interpolated(code, table, space.arguments.reals("distances").get(edge), 1)
                place = edge * self._edge_slots
                edge_sums.set(place, edge_sums.get(place) - change * slope)
            _scale(code, received.row(number), received.dim, inverse)

    def _interpolated(self, code: Code, table: Reals, distance: Real, order: int) -> Real:
        interval, ((first, *others),) = self._knots.at(code, distance, [order])
        total = first * table.get(interval)
        for place, value in enumerate(others):
            total = code.fused_real(value, table.get(interval + (place + 1)), total)
        return total


def _edges(space: Space, atom: Index) -> tuple[Index, Index]:
    return space.arguments.indices("starts").get(atom), space.arguments.indices("kept").get(atom)


def _scale(code: Code, row: Reals, columns: int, factor: Real) -> None:
    wide = code.broadcast(factor)
    with code.loop(0, columns, code.lanes) as column:
        row.store(column, row.load(column) * wide)
