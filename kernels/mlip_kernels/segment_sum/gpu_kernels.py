"""Triton kernel of the segment sum. It imports Triton, so that only what runs on a GPU may import this module."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["first", "columns"])
def sum_rows(  # type: ignore[no-untyped-def]
    values,
    order,
    begins,
    ends,
    output,
    first,
    columns,
    ORDERED: tl.constexpr,  # noqa: N803 – constants are capitals.
    ADD: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
):
    """Sum the rows at positions begins[s] … ends[s] of each segment s, in tiles of ROWS rows and COLUMNS columns.

    Rows are `values[position]`, or, if ORDERED, `values[order[position] - first]`; with ADD sums are added to `output`.
    """
    segment = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    end = tl.load(ends + segment)
    total = tl.zeros([ROWS, COLUMNS], output.dtype.element_ty)
    for start in range(tl.load(begins + segment), end, ROWS):
        position = start + tl.arange(0, ROWS)
        row = position
        if ORDERED:
            row = tl.load(order + position, mask=position < end, other=first) - first
        inside = (position < end)[:, None] & (column < columns)[None, :]
        total += tl.load(values + row[:, None] * columns + column[None, :], mask=inside, other=0.0)
    place = output + segment * columns + column
    result = tl.sum(total, 0)
    if ADD:
        result += tl.load(place, mask=column < columns, other=0.0)
    tl.store(place, result, mask=column < columns)
