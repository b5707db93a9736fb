"""Matrix products with matrices that a program keeps."""

from dataclasses import dataclass

from mlip_kernels.simd.code import Code, Index, Reals
from mlip_kernels.simd.target import host_target


@dataclass(frozen=True)
class Rows:
    """Rows of a matrix in memory: an array and the distance between the starts of neighbouring rows."""

    values: Reals
    stride: int | Index


def define_product(code: Code, columns: int) -> None:
    """Define the function `product_<columns>`, for matrices of which `columns` columns are padded to whole vectors.

    Its arguments: the left rows and their stride, the matrix [inner, columns], the result's rows and their stride, the
    number of rows, the inner dimension, and whether to add to the result (1) or to overwrite it (0).
    """
    name = _name(columns)
    if name in code.functions:
        return
    kinds = ["reals", "index", "reals", "reals", "index", "index", "index", "index"]
    vectors, height = _panel(code, columns)
    with code.function(name, kinds) as (body, (left, left_stride, matrix, result, result_stride, rows, inner, add)):
        for first in range(0, columns, vectors * code.lanes):
            width = min(vectors, (columns - first) // code.lanes)
            whole = (rows // height) * height
            with body.loop(0, whole, height) as row:
                _block(
                    body,
                    Rows(left, left_stride),
                    matrix,
                    Rows(result, result_stride),
                    row,
                    height,
                    inner,
                    add,
                    columns,
                    first,
                    width,
                )
            with body.loop(whole, rows) as row:
                _block(
                    body,
                    Rows(left, left_stride),
                    matrix,
                    Rows(result, result_stride),
                    row,
                    1,
                    inner,
                    add,
                    columns,
                    first,
                    width,
                )


def multiply(
    code: Code, left: Rows, matrix: Reals, result: Rows, rows: int | Index, inner: int, columns: int, add: bool = False
) -> None:
    """result = left @ matrix, or added to it; `matrix` is [inner, columns], its columns padded to whole vectors."""
    code.call(
        _name(columns),
        left.values,
        code.index(left.stride),
        matrix,
        result.values,
        code.index(result.stride),
        code.index(rows),
        inner,
        int(add),
    )


def _name(columns: int) -> str:
    return f"product_{columns}"


def _panel(code: Code, columns: int) -> tuple[int, int]:
    """Vectors and rows of a block whose sums stay in registers."""
    if host_target().vector_registers >= 32:
        return min(4, columns // code.lanes), 6
    return min(2, columns // code.lanes), 6


def _block(
    code: Code,
    left: Rows,
    matrix: Reals,
    result: Rows,
    row: Index,
    height: int,
    inner: Index,
    add: Index,
    columns: int,
    first: int,
    width: int,
) -> None:
    """A block of the result, `height` rows of `width` vectors."""
    starts = [left.values.at((row + number) * left.stride) for number in range(height)]
    places = [result.values.at((row + number) * result.stride + first) for number in range(height)]
    sums = [[code.variable(code.broadcast(0.0)) for _ in range(width)] for _ in range(height)]
    with code.loop(0, inner) as k:
        line = matrix.at(k * columns + first)
        vectors = [line.load(number * code.lanes) for number in range(width)]
        for start, totals in zip(starts, sums, strict=True):
            factor = start.broadcast(k)
            for vector, total in zip(vectors, totals, strict=True):
                total.add_product(factor, vector)
    with code.when(add.compare("==", 1)):
        for place, totals in zip(places, sums, strict=True):
            for number, total in enumerate(totals):
                total.add(place.load(number * code.lanes))
    for place, totals in zip(places, sums, strict=True):
        for number, total in enumerate(totals):
            place.store(number * code.lanes, total.get())
