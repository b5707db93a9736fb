"""Definition of the segment sum in plain torch."""

from torch import Tensor


def segment_sum(values: Tensor, segments: Tensor, num_segments: int) -> Tensor:
    """Sum the rows of each segment: `out[s] = sum of values[r] over the rows r with segments[r] == s`.

    Args:
        values: Rows to sum, [rows, ...].
        segments: Segment of each row, int64 [rows].
        num_segments: Number of segments; one without rows gets zeros.

    Returns:
        Sums, [num_segments, ...], of the dtype of `values`.
    """
    return values.new_zeros(num_segments, *values.shape[1:]).index_add(0, segments, values)
