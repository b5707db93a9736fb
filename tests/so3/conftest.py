"""Fixtures of the rotation-group tests."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def e3nn_in_double() -> Iterator[None]:
    """e3nn builds its Wigner matrices in the default dtype, and is good to 1e-7 only unless that is float64."""
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(previous)
