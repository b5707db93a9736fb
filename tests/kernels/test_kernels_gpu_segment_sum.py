"""The tiles of the segment sum's Triton kernel, whose other checks run with those of the convolution."""

import pytest

from mlip_kernels.segment_sum.gpu import tile_shape


@pytest.mark.parametrize(("columns", "shape"), [(1, (256, 1)), (3, (64, 4)), (128, (2, 128)), (5000, (2, 128))])
def test_tiles_have_256_elements(columns: int, shape: tuple[int, int]) -> None:
    assert tile_shape(columns) == shape
