"""The segment sum on a GPU: one program for each segment and block of columns, no atomics, the same bits every time."""

from torch import Tensor

from mlip_kernels.gpu_compile import CompileCase
from mlip_kernels.gpu_launch import launch

# Columns of a tile at most, and its elements: eight for each of 32 lanes.
_COLUMNS = 128
_TILE = 256


def segment_sum(values: Tensor, starts: Tensor) -> Tensor:
    """Sum the rows of each segment, whose rows stand together: `out[s] = sum of values[starts[s] : starts[s + 1]]`.

    Args:
        values: Rows to sum, [rows, ...].
        starts: First row of each segment, ascending, and the number of rows, int64 [segments + 1].

    Returns:
        Sums, [segments, ...], of the dtype of `values`; their derivative is that of a gather by segment.
    """
    output = values.new_empty(len(starts) - 1, *values.shape[1:])
    _launch(values.contiguous(), None, starts[:-1], starts[1:], output, 0, add=False)
    return output


def gather_sum(values: Tensor, order: Tensor, begins: Tensor, ends: Tensor, output: Tensor, first: int = 0) -> None:
    """Add to `output[s]` the sum of `values[order[p] - first]` over the positions p from begins[s] to ends[s].

    Args:
        values: Rows to sum, [rows, columns].
        order: Rows in the order of their segments, each larger by `first`, int64.
        begins: First position of each segment, int64 [segments].
        ends: The position after its last, int64 [segments].
        output: What to add to, [segments, columns].
        first: Number that `order` gives to the first row of `values`.
    """
    _launch(values, order, begins, ends, output, first, add=True)


def tile_shape(columns: int) -> tuple[int, int]:
    """Rows and columns of the tiles in which rows are read: wide ones where rows are wide, for aligned reads."""
    width = 1
    while width < min(columns, _COLUMNS):
        width *= 2
    return _TILE // width, width


def compile_cases() -> list[CompileCase]:
    """The kernel for energies of structures, and for derivatives of features summed by sender."""
    from mlip_kernels.segment_sum.gpu_kernels import sum_rows

    types = {"values": "*fp32", "order": "*i64", "begins": "*i64", "ends": "*i64", "output": "*fp32"}
    signature = {**types, "first": "i32", "columns": "i32"}
    cases = []
    for name, columns, ordered in (("energies", 1, False), ("features", 512, True)):
        rows, width = tile_shape(columns)
        constants = {"ORDERED": ordered, "ADD": ordered, "ROWS": rows, "COLUMNS": width}
        cases.append(CompileCase(f"segment_sum_{name}", sum_rows, signature, constants))
    return cases


def _launch(
    values: Tensor, order: Tensor | None, begins: Tensor, ends: Tensor, output: Tensor, first: int, add: bool
) -> None:
    from mlip_kernels.segment_sum.gpu_kernels import sum_rows

    columns = output.shape[1:].numel()
    rows, width = tile_shape(columns)
    # Where no order is needed any pointer will do.
    places = begins if order is None else order
    launch(
        sum_rows,
        (len(output), -(-columns // width)),
        (values, places, begins, ends, output, first, columns),
        {"ORDERED": order is not None, "ADD": add, "ROWS": rows, "COLUMNS": width},
    )
