"""Sums over segments against numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlip_kernels.segment_sum import segment_sum


@given(
    st.lists(st.integers(0, 6), max_size=30),
    st.integers(0, 4),
    st.lists(st.integers(1, 3), max_size=2),
    st.sampled_from([np.float32, np.float64]),
)
def test_equals_numpy(segments: list[int], surplus: int, tail: list[int], dtype: type) -> None:
    num_segments = max(segments, default=-1) + 1 + surplus
    values = np.random.default_rng(len(segments)).normal(size=(len(segments), *tail)).astype(dtype)
    expected = np.zeros((num_segments, *tail), dtype)
    np.add.at(expected, np.array(segments, dtype=int), values)
    result = segment_sum(torch.tensor(values), torch.tensor(segments, dtype=torch.int64), num_segments)
    assert result.numpy().dtype == dtype
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=30 * np.finfo(dtype).eps)


@pytest.mark.parametrize("segments", [[0, 0, 2, 2, 2, 3], [4, 0, 4, 1], []])
def test_derivatives(segments: list[int]) -> None:
    values = torch.randn(len(segments), 2, dtype=torch.float64, requires_grad=True)
    index = torch.tensor(segments, dtype=torch.int64)
    assert torch.autograd.gradcheck(lambda x: segment_sum(x, index, 5), values)
    assert torch.autograd.gradgradcheck(lambda x: segment_sum(x, index, 5) ** 2, values)
