"""Fixtures of the building blocks' tests."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Weights and operands are the same in every run."""
    torch.manual_seed(0)


@pytest.fixture
def e3nn_in_double() -> Iterator[None]:
    """e3nn's modules take their coupling constants in the default dtype."""
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(previous)
