"""Mixing of channels: compiled programs against the definition, derivatives, groups, threads."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from mlip_kernels.channel_mixing import (
    KernelMixing,
    MixingBlock,
    MixingTable,
    ReferenceMixing,
    RowGroups,
    cpu,
    fits_vectors,
)
from mlip_kernels.wanted import only

TOLERANCES = {torch.float64: 1e-13, torch.float32: 1e-5}
# Whole; with columns that nothing is read from or written to; a single block.
TABLES = {
    "whole": MixingTable((MixingBlock(0, 0, 1, 32, 16, 0.5), MixingBlock(32, 16, 3, 16, 80, 2.0)), 80, 256),
    "gaps": MixingTable((MixingBlock(7, 5, 5, 48, 16, 1.0),), 260, 100),
    "narrow": MixingTable((MixingBlock(0, 0, 1, 16, 16, 1.0),), 16, 16),
}
COUNTS = [4, 0, 8, 1]


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def operands(table: MixingTable, rows: int, grouped: bool, dtype: torch.dtype) -> list[torch.Tensor]:
    """Features, then weights."""
    generator = torch.Generator().manual_seed(3)
    leading = [len(COUNTS)] if grouped else []
    shapes = [(rows, table.input_dim)]
    shapes += [(*leading, block.channels_in, block.channels_out) for block in table.blocks]
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def row_groups() -> RowGroups:
    return RowGroups(torch.randperm(sum(COUNTS), generator=torch.Generator().manual_seed(5)), COUNTS)


def derivatives(
    module: Callable[..., torch.Tensor], given: list[torch.Tensor], groups: RowGroups | None
) -> list[torch.Tensor]:
    """Values, gradients and second derivatives."""
    output = module(given[0], given[1:], groups)
    first = torch.autograd.grad((output**2).sum(), given, create_graph=True)
    second = torch.autograd.grad(sum(((each**3).sum() for each in first), output.new_zeros(())), given)
    return [output, *first, *second]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("grouped", [False, True], ids=["one group", "groups"])
@pytest.mark.parametrize("name", TABLES)
def test_values_and_derivatives(name: str, grouped: bool, dtype: torch.dtype) -> None:
    table = TABLES[name]
    assert fits_vectors(table)
    groups = row_groups() if grouped else None
    given = operands(table, sum(COUNTS), grouped, dtype)
    found = derivatives(KernelMixing(table, grouped), given, groups)
    for actual, expected in zip(found, derivatives(ReferenceMixing(table), given, groups), strict=True):
        scale = expected.abs().max().item()
        torch.testing.assert_close(actual, expected, rtol=0, atol=TOLERANCES[dtype] * max(scale, 1.0))


@pytest.mark.parametrize("grouped", [False, True], ids=["one group", "groups"])
def test_jacobians(grouped: bool) -> None:
    table = TABLES["gaps"]
    groups = row_groups() if grouped else None
    given = operands(table, sum(COUNTS), grouped, torch.float64)
    module = KernelMixing(table, grouped)
    assert torch.autograd.gradcheck(lambda x, *w: module(x, w, groups), given, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x, *w: module(x, w, groups), given, fast_mode=True)


@pytest.mark.parametrize("counts", [[0], [1], [400], [150, 0, 3, 240], [2, 390, 1, 7], [0, 1, 0, 1]])
def test_threads_and_repeats_give_the_same_bits(threads: None, counts: list[int], monkeypatch: Any) -> None:
    monkeypatch.setattr(cpu, "_FEW_PRODUCTS", 0)
    table, grouped = TABLES["whole"], len(counts) > 1
    given = operands(table, sum(counts), grouped, torch.float32)
    order = torch.randperm(sum(counts), generator=torch.Generator().manual_seed(5))
    groups = RowGroups(order, counts) if grouped else None
    found = []
    for number in (1, 2, 2):
        torch.set_num_threads(number)
        found.append(derivatives(KernelMixing(table, grouped), given, groups))
    for other in found[1:]:
        for actual, expected in zip(other, found[0], strict=True):
            assert torch.equal(actual, expected)


def test_pass_for_positions_leaves_the_weights_alone() -> None:
    table = TABLES["narrow"]
    features, weight = operands(table, 5, False, torch.float64)
    output = KernelMixing(table, False)(features, [weight])
    with only("positions"):
        found = torch.autograd.grad(output.sum(), (features, weight), allow_unused=True)
    assert found[1] is None
    torch.testing.assert_close(found[0], weight.detach().sum(1).expand(5, -1))


def test_results_are_divided_in_all_derivatives() -> None:
    table = TABLES["gaps"]
    given = operands(table, 6, False, torch.float64)
    module = KernelMixing(table, False)
    divided = derivatives(lambda x, w, groups: module(x, w, groups, divisor=4.0), given, None)
    for actual, expected in zip(
        divided, derivatives(lambda x, w, groups: module(x, w, groups) / 4.0, given, None), strict=True
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-13, atol=1e-13)


def test_channels_that_do_not_fill_vectors() -> None:
    assert not fits_vectors(MixingTable((MixingBlock(0, 0, 1, 16, 9, 1.0),), 16, 9))


def test_copies_compute_the_same() -> None:
    table = TABLES["narrow"]
    given = operands(table, 5, False, torch.float64)
    module = KernelMixing(table, False)
    expected = module(given[0], given[1:])
    assert torch.equal(copy.deepcopy(module)(given[0], given[1:]), expected)
