"""Peak memory against sizes that are known."""

import os

import numpy as np
import pytest
import torch

from mlip.benchmarks.memory import peak_memory, resident_growth

CPU = torch.device("cpu")
SIZE = 256
BYTES = 4 * SIZE**2


def test_peak_is_what_is_held_at_one_time():
    x = torch.ones(SIZE, SIZE)

    def two_at_a_time():
        y = x + 1.0
        for _ in range(5):
            y = y + 1.0  # the old one goes when the new one is there
        return y

    def all_together():
        return [x + 1.0 for _ in range(5)]

    # Scalars that become tensors take a few bytes.
    assert 2 * BYTES <= peak_memory(two_at_a_time, CPU) < 2 * BYTES + 200
    assert 5 * BYTES <= peak_memory(all_together, CPU) < 5 * BYTES + 200
    assert peak_memory(lambda: x.sum(), CPU) < 200


def test_what_autograd_keeps_counts():
    x = torch.ones(SIZE, SIZE, requires_grad=True)

    def call():
        y = x.exp()  # kept for the backward pass
        z = y.exp()  # so is this
        return torch.autograd.grad(z.sum(), x)

    assert 3 * BYTES <= peak_memory(call, CPU) < 4 * BYTES + 200


def test_the_environment_is_left_as_it_was(monkeypatch):
    monkeypatch.delenv("KINETO_LOG_LEVEL", raising=False)
    peak_memory(lambda: None, CPU)
    assert "KINETO_LOG_LEVEL" not in os.environ
    monkeypatch.setenv("KINETO_LOG_LEVEL", "3")
    peak_memory(lambda: None, CPU)
    assert os.environ["KINETO_LOG_LEVEL"] == "3"


def test_growth_counts_what_is_written_and_no_more():
    size = 64 * 2**20
    kept = np.ones(size // 8)  # was there before

    def call():
        first = np.ones(size // 8)
        del first
        second = np.ones(size // 8)
        np.empty(size)  # memory that nobody writes to is not resident
        return second

    growth = resident_growth(call)
    if growth is None:
        pytest.skip("the system does not tell the memory of a process")
    assert kept[0] == 1.0
    # The kernel counts in batches of pages.
    assert 0.95 * size < growth < 1.2 * size


def test_growth_of_memory_that_was_freed_before_counts():
    blocks = [np.ones(4096) for _ in range(2000)]  # small enough to be kept by the allocator
    size = sum(block.nbytes for block in blocks)
    del blocks
    growth = resident_growth(lambda: [np.ones(4096) for _ in range(2000)])
    if growth is None:
        pytest.skip("the system does not tell the memory of a process")
    assert 0.8 * size < growth < 1.2 * size
