"""The emitter's integers, numbers, vectors, arrays, loops and functions against numpy."""

import math

import numpy as np
import pytest
from simd_pieces import REALS, Pieces

from mlip_kernels.simd.code import Code, Indices, Real, Vector
from mlip_kernels.simd.target import host_target

RELATIONS = ("==", "!=", "<", "<=", ">", ">=")


def loops(code: Code, given: Indices) -> None:
    """Number of turns and sum of the counters of nested loops: arguments start, stop, result [2]."""
    turns, total = code.variable(code.index(0)), code.variable(code.index(0))
    with code.loop(given.get(0), given.get(1), 3) as outer, code.loop(outer, 10) as inner:
        turns.add(code.index(1))
        total.add(outer * 100 + inner)
    given.indices(2).set(0, turns.get())
    given.indices(2).set(1, total.get())


def integers(code: Code, given: Indices) -> None:
    """Arithmetic of two integers: arguments a, b, result [8], result of Index.real [1]."""
    a, b, result = given.get(0), given.get(1), given.indices(2)
    values = [a + b, 7 + a, a - b, a * b, 3 * b, a.least(b), a.most(b), a.least(4)]
    for number, value in enumerate(values):
        result.set(number, value)
    given.reals(3).set(0, (a - b).real())


def quotients(code: Code, given: Indices) -> None:
    """Arguments a, b, result [2]."""
    a, b, result = given.get(0), given.get(1), given.indices(2)
    result.set(0, a // b)
    result.set(1, a % b)


def relations(code: Code, given: Indices) -> None:
    """Which relations hold: arguments a, b (integers), x, y (numbers), results [6] each."""
    a, b = given.get(0), given.get(1)
    x, y = given.reals(2).get(0), given.reals(3).get(0)
    for number, relation in enumerate(RELATIONS):
        with code.when(a.compare(relation, b)):
            given.indices(4).set(number, 1)
        with code.when(x.compare(relation, y)):
            given.indices(5).set(number, 1)


def real_values(code: Code, x: Real, y: Real) -> list[Real]:
    """What `reals` writes."""
    return [
        x + y, 1.5 + x, x - y, 1.5 - x, x * y, 1.5 * x, x / y, 1.5 / y, -x, code.root(y), code.fused_real(x, y, x),
        x.where(x.compare("<", y), y), x.where(y.compare("<", x), 0.25), x.truncated().real(),
    ]  # fmt: skip


def reals(code: Code, given: Indices) -> None:
    """Arguments x, y, result [14]."""
    for number, value in enumerate(real_values(code, given.reals(0).get(0), given.reals(1).get(0))):
        given.reals(2).set(number, value)


def wide_sum(code: Code, given: Indices) -> None:
    """Arguments count, numbers, result [3] in double precision, the rounded sum [1]."""
    values, result = given.reals(1), given.wides(2)
    total = code.variable(result.get(0))
    with code.loop(0, given.get(0)) as number:
        total.add(values.get(number).wide())
    result.set(0, total.get())
    result.at(1).set(0, -total.get() * 2.0 - 1.0)
    result.add(2, 1.0 / total.get())
    given.reals(3).set(0, total.get().narrow())


def vector_values(code: Code, x: Vector, y: Vector, number: Real) -> list[Vector]:
    """What `vectors` writes."""
    backwards = list(reversed(range(code.lanes)))
    alternating = [lane if lane % 2 else code.lanes + lane for lane in range(code.lanes)]
    return [
        x + y, 2.5 + x, x - y, 2.5 - x, x * y, x * 2.5, x / y, 2.5 / y, -x, code.fused(x, y, x), code.broadcast(0.75),
        code.broadcast(number), code.broadcast(x.lane(1)), x.shuffled(y, backwards), x.shuffled(y, alternating),
    ]  # fmt: skip


def vectors(code: Code, given: Indices) -> None:
    """Arguments x [lanes], y [lanes], result [15, lanes], all at odd places of the arrays."""
    x, y, result = (given.reals(number).at(1) for number in range(3))
    for number, value in enumerate(vector_values(code, x.load(0), y.load(0), y.get(2))):
        result.store(number * code.lanes, value)


def sums_of_vectors(code: Code, given: Indices) -> None:
    """Arguments count of vectors, vectors, sum, sum of squares, what is added to, what is cleared but for its last."""
    values, lanes = given.reals(1), code.lanes
    total, squares = code.variable(code.broadcast(0.0)), code.variable(code.broadcast(1.0))
    kept = code.scratch(2 * lanes)
    with code.loop(0, given.get(0)) as number:
        value = values.load(number * lanes)
        kept.store(lanes, value)
        total.add(kept.load(lanes))
        squares.add_product(value, kept.load(lanes))
        given.reals(4).add(0, value)
    given.reals(2).store(0, total.get())
    given.reals(3).store(0, squares.get())
    given.reals(5).clear(given.get(0) * lanes)


def functions(code: Code, given: Indices) -> None:
    """Arguments count, numbers, result [count]: each number cubed by a function that calls another."""
    with code.function("times", ["index", "reals", "reals"]) as (body, (place, factors, target)):
        product = body.variable(target.get(place))
        with body.loop(0, 2):
            product.set(product.get() * factors.get(place))
        target.set(place, product.get())
    with (
        code.function("cubes", ["index", "reals", "reals"]) as (body, (count, numbers, target)),
        body.loop(0, count) as place,
    ):
        target.set(place, numbers.get(place))
        body.call("times", place, numbers, target)
    code.call("cubes", given.get(0), given.reals(1), given.reals(2))


def kinds_of_arguments(code: Code, given: Indices) -> None:
    """Arguments integers, numbers in double precision: a function adds 5 to the first of each."""
    with code.function("add_to_each", ["index", "indices", "wides"]) as (_, (change, integers, wides)):
        integers.set(0, integers.get(0) + change)
        wides.add(0, change.real().wide())
    code.call("add_to_each", 5, given.indices(0), given.wides(1))


EMITTERS = {
    each.__name__: each
    for each in (
        loops, integers, quotients, relations, reals, wide_sum, vectors, sums_of_vectors, functions,
        kinds_of_arguments,
    )
}  # fmt: skip


@pytest.fixture(scope="module", params=REALS)
def run(request: pytest.FixtureRequest) -> Pieces:
    return Pieces(request.param, EMITTERS)


def epsilon(run: Pieces) -> float:
    return float(np.finfo(run.dtype).eps)


@pytest.mark.parametrize(("start", "stop"), [(0, 7), (2, 3), (5, 5), (6, 2), (-4, 12)])
def test_loops_turn_as_ranges_do(run: Pieces, start: int, stop: int) -> None:
    result = np.zeros(2, dtype=np.int64)
    run("loops", start, stop, result)
    turns = [(outer, inner) for outer in range(start, stop, 3) for inner in range(outer, 10)]
    assert result.tolist() == [len(turns), sum(100 * outer + inner for outer, inner in turns)]


@pytest.mark.parametrize(("a", "b"), [(12, 5), (-3, 8), (2**40, -(2**20)), (4, 4)])
def test_integers(run: Pieces, a: int, b: int) -> None:
    result, real = np.zeros(8, dtype=np.int64), run.zeros(1)
    run("integers", a, b, result, real)
    assert result.tolist() == [a + b, 7 + a, a - b, a * b, 3 * b, min(a, b), max(a, b), min(a, 4)]
    assert real[0] == run.dtype.type(a - b)


@pytest.mark.parametrize(("a", "b"), [(12, 5), (4, 5), (0, 3), (2**50 + 1, 2**20)])
def test_quotients(run: Pieces, a: int, b: int) -> None:
    result = np.zeros(2, dtype=np.int64)
    run("quotients", a, b, result)
    assert result.tolist() == [a // b, a % b]


@pytest.mark.parametrize(("a", "b"), [(1, 2), (2, 1), (3, 3), (-1, 1), (-2, -3)])
def test_relations(run: Pieces, a: int, b: int) -> None:
    of_integers, of_numbers = np.zeros(6, dtype=np.int64), np.zeros(6, dtype=np.int64)
    run("relations", a, b, run.array(a / 8), run.array(b / 8), of_integers, of_numbers)
    expected = [a == b, a != b, a < b, a <= b, a > b, a >= b]
    assert of_integers.tolist() == expected
    assert of_numbers.tolist() == expected


def test_no_relation_holds_for_what_is_no_number(run: Pieces) -> None:
    of_integers, of_numbers = np.zeros(6, dtype=np.int64), np.zeros(6, dtype=np.int64)
    run("relations", 0, 0, run.array(math.nan), run.array(1.0), of_integers, of_numbers)
    assert of_numbers.tolist() == [0] * 6


@pytest.mark.parametrize(("x", "y"), [(0.3, 0.7), (-5.9, 1e-3), (2.9, 2.0)])
def test_reals(run: Pieces, x: float, y: float) -> None:
    result = run.zeros(14)
    given = run.array(x, y)
    run("reals", given[:1], given[1:], result)
    x, y = (float(each) for each in given)
    expected = [
        x + y, 1.5 + x, x - y, 1.5 - x, x * y, 1.5 * x, x / y, 1.5 / y, -x, math.sqrt(y), x * y + x,
        min(x, y), x if y < x else 0.25, math.trunc(x),
    ]  # fmt: skip
    np.testing.assert_allclose(result, expected, rtol=2 * epsilon(run), atol=2 * epsilon(run))


def test_wide_numbers_keep_what_the_type_of_the_program_loses(run: Pieces) -> None:
    numbers = np.full(1000, 0.1, dtype=run.dtype)
    result, rounded = np.array([2.0**24, 0.0, 3.0]), run.zeros(1)
    run("wide_sum", len(numbers), numbers, result, rounded)
    total = math.fsum([2.0**24, *numbers.tolist()])
    np.testing.assert_allclose(result, [total, -2.0 * total - 1.0, 3.0 + 1.0 / total], rtol=1e-13)
    assert rounded[0] == run.dtype.type(result[0])


def test_vectors(run: Pieces) -> None:
    lanes = host_target().lanes(run.dtype.name)
    generator = np.random.default_rng(0)
    x, y = (generator.uniform(0.5, 2.0, lanes + 1).astype(run.dtype) for _ in range(2))
    result = run.zeros(15 * lanes + 2)
    run("vectors", x, y, result)
    assert result[0] == result[-1] == 0.0
    x, y = x[1:].astype(float), y[1:].astype(float)
    odd = np.arange(lanes) % 2 == 1
    expected = [
        x + y, 2.5 + x, x - y, 2.5 - x, x * y, x * 2.5, x / y, 2.5 / y, -x, x * y + x, x * 0 + 0.75,
        x * 0 + y[2], x * 0 + x[1], x[::-1], np.where(odd, x, y),
    ]  # fmt: skip
    np.testing.assert_allclose(result[1:-1].reshape(15, lanes), expected, rtol=2 * epsilon(run), atol=2 * epsilon(run))


@pytest.mark.parametrize("count", [0, 1, 5])
def test_sums_of_vectors_scratch_and_clearing(run: Pieces, count: int) -> None:
    lanes = host_target().lanes(run.dtype.name)
    values = np.random.default_rng(1).normal(size=(count, lanes)).astype(run.dtype)
    total, squares, added = run.zeros(lanes), run.zeros(lanes), np.ones(lanes, dtype=run.dtype)
    cleared = np.ones(count * lanes + 1, dtype=run.dtype)
    run("sums_of_vectors", count, values, total, squares, added, cleared)
    wide = values.astype(float)
    near = {"rtol": 8 * epsilon(run), "atol": 8 * epsilon(run)}
    np.testing.assert_allclose(total, wide.sum(0), **near)
    np.testing.assert_allclose(squares, 1.0 + (wide**2).sum(0), **near)
    np.testing.assert_allclose(added, 1.0 + wide.sum(0), **near)
    assert cleared.tolist() == [0.0] * (count * lanes) + [1.0]


def test_functions_call_functions(run: Pieces) -> None:
    numbers = np.linspace(-2.0, 2.0, 7).astype(run.dtype)
    result = run.zeros(7)
    run("functions", 7, numbers, result)
    np.testing.assert_allclose(result, numbers.astype(float) ** 3, rtol=4 * epsilon(run))


def test_functions_take_arrays_of_every_kind(run: Pieces) -> None:
    integers, wides = np.array([2**40]), np.array([0.125])
    run("kinds_of_arguments", integers, wides)
    assert integers.tolist() == [2**40 + 5]
    assert wides.tolist() == [5.125]
