"""Checks of the segment sum's Triton kernel, run by `test_kernels_gpu_convolution.py` in Triton's interpreter."""

import pytest
import torch
from edge_cases import normal

from mlip_kernels.segment_sum import gpu
from mlip_kernels.segment_sum import segment_sum as reference


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tail", [(), (3,), (2, 100), (0,)], ids=str)
@pytest.mark.parametrize("counts", [[3, 0, 2], [], [0], [9, 1]], ids=str)
def test_equals_the_reference(counts: list[int], tail: tuple[int, ...], dtype: torch.dtype) -> None:
    segments = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.int64))
    (values,) = normal(1, (sum(counts), *tail), dtype=dtype)
    starts = torch.tensor([0, *counts]).cumsum(0)
    result = gpu.segment_sum(values, starts)
    assert result.dtype == dtype
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-14}[dtype]
    torch.testing.assert_close(result, reference(values, segments, len(counts)), rtol=0, atol=tolerance)


def test_a_segment_longer_than_a_tile() -> None:
    """600 rows of one column, 256 of which make a tile."""
    values = torch.arange(600, dtype=torch.float64)
    result = gpu.segment_sum(values, torch.tensor([0, 1, 599, 600]))
    assert result.tolist() == [0.0, sum(range(1, 599)), 599.0]


def test_gathers_rows_in_an_order_and_adds() -> None:
    (values,) = normal(2, (5, 130))
    output = torch.ones(3, 130, dtype=torch.float64)
    # Rows are numbered from 10; positions 1, 2 and 4, 5 of the order are summed, for segments 0 and 2.
    order = torch.tensor([12, 10, 14, 13, 11, 12, 10])
    gpu.gather_sum(values, order, torch.tensor([1, 3, 4]), torch.tensor([3, 3, 6]), output, 10)
    expected = torch.stack([1 + values[0] + values[4], torch.ones(130, dtype=torch.float64), 1 + values[1] + values[2]])
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-14)
