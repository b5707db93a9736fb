"""Emits what the pair sums need of vectors: roots and reciprocals by estimates, masks, and numbers by index."""

from collections.abc import Sequence

from llvmlite import ir

from mlip_kernels.simd.code import INTEGER, Code, Index, Indices, Real, Reals, Vector
from mlip_kernels.simd.target import host_target

_BYTES_OF_AVX512 = 64
# Numbers of a row that are loaded together.
_QUAD = 4


def inverse_root(x: Vector) -> Vector:
    """1 / sqrt(x) of positive numbers, to a unit in the last place or two."""
    code = x.code
    estimate = _estimate("rsqrt14", x)
    if estimate is None:
        return 1.0 / root(x)
    # An estimate y of 14 bits has the error e = 1 - x y^2, and the root is y (1 - e)^(-1/2).
    error = code.fused(-(x * estimate), estimate, code.broadcast(1.0))
    if code.real == "float32":
        return code.fused(estimate * error, code.broadcast(0.5), estimate)
    series = code.fused(error, code.broadcast(5 / 16), code.broadcast(3 / 8))
    series = code.fused(series, error, code.broadcast(0.5))
    return code.fused(estimate * error, series, estimate)


def reciprocal(x: Vector) -> Vector:
    """1 / x, to a unit in the last place or two."""
    code = x.code
    estimate = _estimate("rcp14", x)
    if estimate is None:
        return 1.0 / x
    error = code.fused(-x, estimate, code.broadcast(1.0))
    if code.real == "float64":
        error = code.fused(code.fused(error, error, error), error, error)
    return code.fused(estimate, error, estimate)


def root(x: Vector) -> Vector:
    """Square root."""
    return Vector(x.code, x.code.root(Real(x.code, x.value)).value)


def magnitude(x: Vector) -> Vector:
    """Absolute values."""
    return select(where_negative(x), -x, x)


def least(x: Vector, limit: float) -> Vector:
    """Numbers, but no more than the limit."""
    code = x.code
    bound = code.broadcast(limit)
    return Vector(code, code.builder.select(code.builder.fcmp_ordered("<", x.value, bound.value), x.value, bound.value))


def where_negative(x: Vector) -> ir.Value:
    """Mask of the lanes whose number is below zero."""
    mask: ir.Value = x.code.builder.fcmp_ordered("<", x.value, x.code.broadcast(0.0).value)
    return mask


def lane_numbers(code: Code, start: Index) -> ir.Value:
    """The integers start, start + 1, …, one for each lane."""
    kind = ir.VectorType(INTEGER, code.lanes)
    return code.builder.add(_spread(code, start), ir.Constant(kind, list(range(code.lanes))))


def lanes_where(code: Code, numbers: ir.Value, relation: str, other: Index) -> ir.Value:
    """Mask of the lanes whose integer compares so with another."""
    return code.builder.icmp_signed(relation, numbers, _spread(code, other))


def select(mask: ir.Value, chosen: Vector, otherwise: float | Vector) -> Vector:
    """Lanes of `chosen` where the mask holds, of `otherwise` elsewhere."""
    code = chosen.code
    other = otherwise if isinstance(otherwise, Vector) else code.broadcast(otherwise)
    return Vector(code, code.builder.select(mask, chosen.value, other.value))


def load_numbers(code: Code, numbers: Indices, offset: Index) -> ir.Value:
    """As many integers as a vector has lanes."""
    kind = ir.VectorType(INTEGER, code.lanes)
    return code.builder.load(numbers.at(offset).value, align=8, typ=kind)


def load_until(code: Code, numbers: Indices, offset: Index, end: Index) -> ir.Value:
    """The integers from `offset` on, and zeros from `end` on, where nothing is read."""
    kind = ir.VectorType(INTEGER, code.lanes)
    mask = lanes_where(code, lane_numbers(code, offset), "<", end)
    return _masked_load(code, numbers.at(offset).value, mask, kind, "i64", 8)


def gather(rows: Reals, stride: Index, width: int, numbers: ir.Value) -> list[Vector]:
    """Columns of the rows with these numbers, each a vector.

    The first `width` of an array [rows, stride], in which a multiple of four numbers can be read of every row.

    Four numbers of each row are loaded at once and transposed, which takes half the time of the processor's gathers.
    """
    columns: list[Vector] = []
    for first in range(0, width, _QUAD):
        columns += _transposed(rows.at(first), stride, numbers)
    return columns[:width]


def _transposed(rows: Reals, stride: Index, numbers: ir.Value) -> list[Vector]:
    code, builder = rows.code, rows.code.builder
    quad = ir.VectorType(code.real_type, _QUAD)
    loaded = []
    for lane in range(code.lanes):
        row = Index(code, builder.extract_element(numbers, ir.Constant(ir.IntType(32), lane)))
        loaded.append(builder.load(rows.at(row * stride).value, align=4 if code.real == "float32" else 8, typ=quad))
    # Row k, k + 4, …, in the parts of the k-th vector.
    parts = [_joined(code, loaded[number::_QUAD]) for number in range(_QUAD)]
    # Pairs of columns that one instruction makes of two rows: neighbours where a part of a register has four numbers.
    pairs = [(0, 1), (2, 3)] if code.real == "float32" else [(0, 2), (1, 3)]
    columns: dict[int, Vector] = {}
    for first, second in pairs:
        taken = [(0, first), (1, first), (0, second), (1, second)]
        low, high = _by_quads(parts[0], parts[1], taken), _by_quads(parts[2], parts[3], taken)
        columns[first] = _by_quads(low, high, [(0, 0), (0, 1), (1, 0), (1, 1)])
        columns[second] = _by_quads(low, high, [(0, 2), (0, 3), (1, 2), (1, 3)])
    return [columns[number] for number in range(_QUAD)]


def _joined(code: Code, parts: list[ir.Value]) -> Vector:
    """Parts of four numbers side by side."""
    while len(parts) > 1:
        size = 2 * parts[0].type.count
        places = ir.Constant(ir.VectorType(ir.IntType(32), size), list(range(size)))
        parts = [
            code.builder.shuffle_vector(one, other, places) for one, other in zip(parts[0::2], parts[1::2], strict=True)
        ]
    return Vector(code, parts[0])


def _by_quads(first: Vector, second: Vector, taken: Sequence[tuple[int, int]]) -> Vector:
    """In every group of four lanes, those of the two vectors' groups that are named by vector and number."""
    lanes = first.code.lanes
    places = [vector * lanes + start + number for start in range(0, lanes, _QUAD) for vector, number in taken]
    return first.shuffled(second, places)


def load_triples(values: Reals, offset: Index, end: Index | None = None) -> list[Vector]:
    """The three columns of as many rows of an array [rows, 3] as a vector has lanes, from row `offset` on.

    They are zero from row `end` on, if that is given, and nothing is read there.
    """
    code = values.code
    lanes = code.lanes
    start = values.at(offset * 3)
    if end is None:
        parts = [start.load(number * lanes) for number in range(3)]
    else:
        suffix, align = ("f32", 4) if code.real == "float32" else ("f64", 8)
        parts = []
        for number in range(3):
            mask = lanes_where(code, lane_numbers(code, offset * 3 + number * lanes), "<", end * 3)
            place = start.at(number * lanes).value
            parts.append(Vector(code, _masked_load(code, place, mask, code.vector_type, suffix, align)))
    columns = []
    for column in range(3):
        places = [3 * lane + column for lane in range(lanes)]
        first = parts[0].shuffled(parts[1], [place if place < 2 * lanes else 0 for place in places])
        columns.append(
            first.shuffled(
                parts[2],
                [lane if place < 2 * lanes else lanes + place - 2 * lanes for lane, place in enumerate(places)],
            )
        )
    return columns


def store_triples(values: Reals, offset: Index, columns: Sequence[Vector]) -> None:
    """Write three columns of as many rows of an array [rows, 3] as a vector has lanes, from row `offset` on."""
    lanes = values.code.lanes
    start = values.at(offset * 3)
    for number in range(3):
        places = [divmod(number * lanes + lane, 3) for lane in range(lanes)]
        first = columns[0].shuffled(columns[1], [row + lanes * (column == 1) for row, column in places])
        taken = [lane if column < 2 else lanes + row for lane, (row, column) in enumerate(places)]
        start.store(number * lanes, first.shuffled(columns[2], taken))


def _estimate(name: str, x: Vector) -> Vector | None:
    """The processor's estimate to 14 bits, where it has one."""
    code = x.code
    if host_target().vector_bytes != _BYTES_OF_AVX512:
        return None
    mask = ir.IntType(16 if code.real == "float32" else 8)
    kind = "ps" if code.real == "float32" else "pd"
    signature = ir.FunctionType(code.vector_type, [code.vector_type, code.vector_type, mask])
    function = _declared(code, f"llvm.x86.avx512.{name}.{kind}.512", signature)
    everywhere = ir.Constant(mask, (1 << code.lanes) - 1)
    return Vector(code, code.builder.call(function, [x.value, code.broadcast(0.0).value, everywhere]))


def _masked_load(code: Code, place: ir.Value, mask: ir.Value, kind: ir.Type, suffix: str, align: int) -> ir.Value:
    signature = ir.FunctionType(kind, [ir.PointerType(), ir.IntType(32), mask.type, kind])
    function = _declared(code, f"llvm.masked.load.v{code.lanes}{suffix}.p0", signature)
    zeros = ir.Constant(kind, [0] * code.lanes)
    return code.builder.call(function, [place, ir.Constant(ir.IntType(32), align), mask, zeros])


def _declared(code: Code, name: str, signature: ir.FunctionType) -> ir.Function:
    return code.builder.module.globals.get(name) or ir.Function(code.builder.module, signature, name)


def _spread(code: Code, number: Index) -> ir.Value:
    kind = ir.VectorType(INTEGER, code.lanes)
    undefined = ir.Constant(kind, ir.Undefined)
    first = code.builder.insert_element(undefined, number.value, ir.Constant(ir.IntType(32), 0))
    places = ir.Constant(ir.VectorType(ir.IntType(32), code.lanes), [0] * code.lanes)
    return code.builder.shuffle_vector(first, undefined, places)
