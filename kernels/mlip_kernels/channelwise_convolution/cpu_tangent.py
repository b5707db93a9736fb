"""Emits the derivative of the convolution and of its gradients along a change of features, harmonics and distances.

It is what the second derivatives of training consist of: forces have a cotangent, which changes the features, the
harmonics and the distances, and the gradients of all that for the radial table and the features are one pass over the
edges. With `h, w, T` the features, weights and combinations of harmonics of an edge, and a prime for their change, the
convolution's terms `w h T` change by `(w h)' T + w h T'`; `w'` is the table's slope times the change of distance.
"""

from mlip_kernels.channelwise_convolution.cpu_code import ConvolutionCode, WeightLayout
from mlip_kernels.channelwise_convolution.cpu_splines import BASIS
from mlip_kernels.simd.code import Code, Index, Indices, Reals, Vector
from mlip_kernels.simd.dual import Dual

_KINDS = ["index", "index", "indices", "indices", *["reals"] * 4]


class TangentCode:
    """Functions of a program that give derivatives of a convolution with a radial table and of its gradients.

    Args:
        convolution: The convolution.
        of_features: Whether the features change; else they are constant.
    """

    def __init__(self, convolution: ConvolutionCode, of_features: bool) -> None:
        self.convolution = convolution
        self.of_features = of_features
        self.plan = convolution.plan
        self._name = f"{convolution.name}_tangent"

    @property
    def scalars(self) -> int:
        """Numbers per edge that the prologue writes."""
        return 2 * (BASIS + len(self.plan.combinations) + self.plan.table.harmonics_dim)

    def prologue(self, code: Code, harmonics: Reals, changes: Reals, scalars: Reals) -> None:
        """Write one edge's combinations and harmonics, then their changes, after the basis values and their changes.

        The change of the first harmonic, a constant, is taken as zero.
        """
        place = 2 * BASIS
        values = [harmonics.get(column) for column in range(self.plan.table.harmonics_dim)]
        others = [changes.get(column) for column in range(1, self.plan.table.harmonics_dim)]
        for numbers in (values, [code.number(0.0), *others]):
            for (column, coefficient), *rest in self.plan.combinations:
                total = numbers[column] * coefficient
                for column, coefficient in rest:
                    total = code.fused_real(numbers[column], code.number(coefficient), total)
                scalars.set(place, total)
                place += 1
            for number in numbers:
                scalars.set(place, number)
                place += 1

    def define(self, code: Code) -> None:
        """Define the functions of every range of blocks."""
        for number in range(len(self.plan.ranges)):
            kinds = [*_KINDS, "reals"]
            with code.function(f"{self._name}_{number}", kinds) as (body, arguments):
                self._value(body, number, *arguments)
            kinds = [*_KINDS, "reals", "reals", "reals"]
            with code.function(f"{self._name}_gradients_{number}", kinds) as (body, arguments):
                self._gradients(body, number, *arguments)

    def call_value(
        self, code: Code, range_number: int, block: Index, count: Index, feature_rows: Indices, weight_rows: Indices,
        scalars: Reals, features: Reals, changes: Reals, weights: Reals, output: Reals,
    ) -> None:  # fmt: skip
        """Write the derivative of the convolution; arguments as those of `ConvolutionCode.call_forward`.

        Args:
            scalars: What the prologue wrote, `scalars` per edge.
            changes: Of the features, with their offsets.
        """
        code.call(
            f"{self._name}_{range_number}", block, count, feature_rows, weight_rows, scalars, features, changes,
            weights, output,
        )  # fmt: skip

    def call_gradients(
        self, code: Code, range_number: int, block: Index, count: Index, feature_rows: Indices, weight_rows: Indices,
        scalars: Reals, features: Reals, changes: Reals, weights: Reals, received: Reals, of_features: Reals,
        of_weights: Reals,
    ) -> None:  # fmt: skip
        """Add the derivatives of the gradients of `<received, convolution>` for features and table."""
        code.call(
            f"{self._name}_gradients_{range_number}", block, count, feature_rows, weight_rows, scalars, features,
            changes, weights, received, of_features, of_weights,
        )  # fmt: skip

    def _value(
        self, code: Code, range_number: int, block: Index, count: Index, feature_rows: Indices, weight_rows: Indices,
        scalars: Reals, features: Reals, changes: Reals, weights: Reals, output: Reals,
    ) -> None:  # fmt: skip
        blocks, layout = self.plan.ranges[range_number], self.convolution.layouts[range_number]
        column = block * code.lanes
        own_weights = weights.at((block - blocks.first) * layout.block_stride)
        combined = len(self.plan.combinations) + self.plan.table.harmonics_dim
        for group in self.plan.groups(blocks.paths):
            zero = code.broadcast(0.0)
            sums = {(path, k): code.variable(zero) for path in group for k in range(self.plan.components(path))}
            with code.loop(0, count) as edge:
                shared = scalars.at(edge * self.scalars)
                sent = self._sent(features, changes, feature_rows.get(edge) + column)
                row = own_weights.at(weight_rows.get(edge) * layout.row_stride)
                for path in group:
                    weight = self._weight(code, row, layout, shared, path)
                    for i in range(self.convolution.inputs(path)):
                        weighted = weight * sent.load(self.convolution.input_place(path, i))
                        assert weighted.tangent is not None
                        for k in range(self.plan.components(path)):
                            if (i, k) in self.plan.filters[path]:
                                place = 2 * BASIS + self.plan.combination_number(path, i, k)
                                sums[path, k].add_product(weighted.tangent, shared.broadcast(place))
                                sums[path, k].add_product(weighted.value, shared.broadcast(place + combined))
            for (path, k), total in sums.items():
                output.store(column + self.convolution.output_place(path, k), total.get())

    def _gradients(
        self, code: Code, range_number: int, block: Index, count: Index, feature_rows: Indices, weight_rows: Indices,
        scalars: Reals, features: Reals, changes: Reals, weights: Reals, received: Reals, of_features: Reals,
        of_weights: Reals,
    ) -> None:  # fmt: skip
        convolution = self.convolution
        blocks, layout = self.plan.ranges[range_number], convolution.layouts[range_number]
        column = block * code.lanes
        from_range = (block - blocks.first) * layout.block_stride
        own_weights, own_gradients = weights.at(from_range), of_weights.at(from_range)
        contracted, places = convolution.contracted(code, blocks, received.at(column))
        with code.loop(0, count) as edge:
            shared = scalars.at(edge * self.scalars)
            sent = self._sent(features, changes, feature_rows.get(edge) + column)
            weight_row = weight_rows.get(edge) * layout.row_stride
            totals: dict[int, Vector] = {}
            for path in blocks.paths:
                weight = self._weight(code, own_weights.at(weight_row), layout, shared, path)
                overlap: Dual | None = None
                for i in range(convolution.inputs(path)):
                    taken = self._taken(code, shared, contracted, places, path, i)
                    if taken is None:
                        continue
                    place = convolution.input_place(path, i)
                    part = (weight * taken).tangent
                    assert part is not None
                    totals[place] = part if place not in totals else totals[place] + part
                    product = sent.load(place) * taken
                    overlap = product if overlap is None else overlap + product
                if overlap is not None:
                    self._add_table_gradient(code, own_gradients.at(weight_row), layout, shared, path, overlap)
            target = of_features.at(feature_rows.get(edge) + column)
            for place, total in totals.items():
                target.add(place, total)

    def _sent(self, features: Reals, changes: Reals, offset: Index) -> "_Sent":
        return _Sent(features.at(offset), changes.at(offset) if self.of_features else None)

    def _weight(self, code: Code, row: Reals, layout: WeightLayout, shared: Reals, path: int) -> Dual:
        basis = [shared.broadcast(number) for number in range(2 * BASIS)]
        value = self.convolution.weight(code, row, layout, basis[:BASIS], path)
        return Dual(value, self.convolution.weight(code, row, layout, basis[BASIS:], path))

    def _taken(
        self,
        code: Code,
        shared: Reals,
        contracted: Reals,
        places: dict[tuple[int, int, int], int],
        path: int,
        i: int,
    ) -> Dual | None:
        """`sum_j Y_j G_ij` of a path and input component, and its change."""
        first = 2 * BASIS + len(self.plan.combinations)
        change = first + len(self.plan.combinations) + self.plan.table.harmonics_dim
        value: Vector | None = None
        tangent: Vector | None = None
        for (number, row, j), where in places.items():
            if number != path or row != i:
                continue
            vector = contracted.load(where)
            value = _sum(code, shared.broadcast(first + j), vector, value)
            if j:
                tangent = _sum(code, shared.broadcast(change + j), vector, tangent)
        return None if value is None else Dual(value, tangent)

    def _add_table_gradient(
        self, code: Code, row: Reals, layout: WeightLayout, shared: Reals, path: int, overlap: Dual
    ) -> None:
        """Add `basis overlap' + basis' overlap`."""
        for number in range(BASIS):
            place = layout.path_offsets[path] + number * layout.row_stride
            total = code.fused(shared.broadcast(BASIS + number), overlap.value, row.load(place))
            if overlap.tangent is not None:
                total = code.fused(shared.broadcast(number), overlap.tangent, total)
            row.store(place, total)


class _Sent:
    """Features of an edge's sender, each loaded once."""

    def __init__(self, values: Reals, changes: Reals | None) -> None:
        self._values = values
        self._changes = changes
        self._loaded: dict[int, Dual] = {}

    def load(self, place: int) -> Dual:
        """The features at an offset, and their change."""
        if place not in self._loaded:
            change = None if self._changes is None else self._changes.load(place)
            self._loaded[place] = Dual(self._values.load(place), change)
        return self._loaded[place]


def _sum(code: Code, first: Vector, second: Vector, total: Vector | None) -> Vector:
    return first * second if total is None else code.fused(first, second, total)
