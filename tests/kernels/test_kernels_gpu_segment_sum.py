"""The segment sum's Triton kernel: its checks in the interpreter, and its tiles."""

import pytest
from gpu_interpreter import run_interpreted

from mlip_kernels.segment_sum.gpu import tile_shape


def test_kernels_in_the_interpreter() -> None:
    run_interpreted("gpu_segment_sum_checks.py")


@pytest.mark.parametrize(("columns", "shape"), [(1, (256, 1)), (3, (64, 4)), (128, (2, 128)), (5000, (2, 128))])
def test_tiles_have_256_elements(columns: int, shape: tuple[int, int]) -> None:
    assert tile_shape(columns) == shape
