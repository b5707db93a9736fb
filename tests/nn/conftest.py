"""Fixtures of the building blocks' tests."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Weights and operands are the same in every run."""
    torch.manual_seed(0)
