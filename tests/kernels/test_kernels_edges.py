"""The layout of edges in blocks, against its definition, for every shape that numbers of neighbours can take."""

import torch
from hypothesis import example, given
from hypothesis import strategies as st

from mlip_kernels.edges import EdgeTopology


def topology(degrees: list[int], num_senders: int | None = None) -> EdgeTopology:
    receivers = torch.repeat_interleave(torch.arange(len(degrees)), torch.tensor(degrees, dtype=torch.int64))
    senders = torch.arange(len(receivers)) % max(num_senders or len(degrees), 1)
    return EdgeTopology(senders, receivers, len(degrees))


@given(st.lists(st.integers(0, 45), max_size=14))
@example([])
@example([0])
@example([0, 0, 0])
@example([1])
@example([0, 1, 0])
@example([5, 5, 5])
@example([1, 0, 200, 3])
@example([4, 8, 12, 16, 24, 32])
def test_every_edge_has_one_slot_in_a_block_of_its_receiver(degrees: list[int]) -> None:
    edges = topology(degrees)
    blocks = edges.blocks
    num_slots = len(blocks.receivers) * blocks.size
    slots = torch.arange(num_slots) if blocks.edges is None else blocks.edges
    occupied = torch.ones(num_slots) if blocks.occupied is None else blocks.occupied.flatten()
    assert slots.shape == occupied.shape == (num_slots,)
    assert blocks.size >= 1
    assert set(occupied.tolist()) <= {0.0, 1.0}
    held = slots[occupied == 1.0]
    assert sorted(held.tolist()) == list(range(sum(degrees)))
    owners = blocks.receivers.repeat_interleave(blocks.size)[occupied == 1.0]
    assert torch.equal(owners, edges.receivers[held])
    assert blocks.receivers.tolist() == sorted(blocks.receivers.tolist())
    # An empty slot points at an edge that exists, so that gathering by it is safe.
    assert all(0 <= slot < sum(degrees) for slot in slots.tolist())


@given(st.lists(st.integers(0, 45), max_size=14))
def test_flags_and_missing_arrays_say_what_the_layout_is(degrees: list[int]) -> None:
    blocks = topology(degrees).blocks
    assert blocks.one_block_per_node == (blocks.receivers.tolist() == list(range(len(degrees))))
    if blocks.edges is None or blocks.occupied is None:
        assert blocks.edges is None
        assert blocks.occupied is None
        assert len(blocks.receivers) * blocks.size == sum(degrees)


@given(st.lists(st.integers(0, 45), min_size=1, max_size=14))
def test_never_more_slots_than_padding_to_the_largest_degree(degrees: list[int]) -> None:
    blocks = topology(degrees).blocks
    assert len(blocks.receivers) * blocks.size <= len(degrees) * max(degrees)


def test_equal_degrees_need_no_gather() -> None:
    blocks = topology([7, 7, 7, 7]).blocks
    assert blocks.edges is None
    assert blocks.size == 7
    assert blocks.one_block_per_node


def test_blocks_are_found_once() -> None:
    edges = topology([3, 1, 2])
    assert edges.blocks is edges.blocks
