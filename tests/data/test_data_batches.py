"""Data sets, edge-filled batches and loaders, for one process and for several."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from hypothesis import given
from hypothesis import strategies as st

from mlip.data.dataset import GraphDataset
from mlip.data.graphs import build_graph
from mlip.data.labels import LabelKeys
from mlip.data.loading import build_loader
from mlip.data.samplers import EdgeBatchSampler
from mlip.data.store import StoreWriter, StructureStore
from mlip.data.structures import Structure
from mlip.errors import ConfigError

CUTOFF = 3.0
NAMES = ["H2O", "CH4", "CH3CH2OH", "C6H6", "H2", "NH3", "CO2"]

edge_count_lists = st.lists(st.integers(0, 300), min_size=1, max_size=60)
epochs = st.integers(0, 5)


@pytest.fixture(scope="module")
def structures() -> list[Structure]:
    atoms = [molecule(name) for name in NAMES * 3] + [bulk("Cu")]
    for index, each in enumerate(atoms):
        each.info["energy"] = float(index)
    return [Structure.from_atoms(each, LabelKeys()) for each in atoms]


@pytest.fixture(scope="module")
def store(structures, tmp_path_factory) -> StructureStore:
    path = tmp_path_factory.mktemp("batches") / "structures.h5"
    with StoreWriter(path) as writer:
        for structure in structures:
            writer.add(structure)
    return StructureStore(path)


def assert_same_graph(one, other) -> None:
    for name, value in one:
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(other[name], value, rtol=0, atol=0, equal_nan=True)
        else:
            assert other[name] == value


@pytest.mark.parametrize("kept_bytes", [0, 5000, 2**30], ids=["built each time", "given up half-way", "kept"])
@pytest.mark.parametrize("source", ["list", "store"])
def test_dataset_gives_the_graphs_of_its_structures(structures, store, source, kept_bytes):
    dataset = GraphDataset(structures if source == "list" else store, CUTOFF, kept_bytes=kept_bytes)
    expected = [build_graph(structure, CUTOFF) for structure in structures]
    assert len(dataset) == len(expected)
    for index, graph in enumerate(expected):
        assert_same_graph(graph, dataset[index])
    assert dataset.edge_counts.tolist() == [graph.edge_index.shape[1] for graph in expected]
    assert dataset.num_atoms.tolist() == [len(structure) for structure in structures]
    unlabelled = dict.fromkeys(("forces", "stress", "charges", "dipole"), 0)
    assert dataset.label_counts == {"energy": len(structures)} | unlabelled
    assert (dataset[3] is dataset[3]) == (kept_bytes == 2**30)


@pytest.mark.parametrize("kept_bytes", [0, 2**30])
def test_subsets(store, kept_bytes):
    dataset = GraphDataset(store, CUTOFF, kept_bytes=kept_bytes)
    part = dataset.subset(torch.tensor([5, 1, 9]))
    nested = part.subset([2, 0])
    assert [graph.energy.item() for graph in part] == [5.0, 1.0, 9.0]
    assert [graph.energy.item() for graph in nested] == [9.0, 5.0]
    assert nested.edge_counts.tolist() == dataset.edge_counts[[9, 5]].tolist()
    assert [structure.energy for structure in nested.structures()] == [9.0, 5.0]
    assert nested.label_counts["energy"] == 2
    assert len(list(dataset.structures())) == len(store)
    assert len(dataset.subset([])) == 0


def test_dataset_pickles(store):
    dataset = GraphDataset(store, CUTOFF, kept_bytes=0)
    dataset[0]
    assert_same_graph(dataset[4], pickle.loads(pickle.dumps(dataset))[4])


@given(edge_count_lists, st.integers(1, 500), st.booleans(), epochs)
def test_batches_are_a_partition_within_the_limit(edge_counts, max_edges, shuffle, epoch):
    sampler = EdgeBatchSampler(edge_counts, max_edges, shuffle, seed=1)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(sampler) == len(batches)
    assert sorted(index for batch in batches for index in batch) == list(range(len(edge_counts)))
    for batch in batches:
        assert len(batch) == 1 or sum(edge_counts[index] for index in batch) <= max_edges
    for batch, following in pairwise(batches):  # none is closed early
        assert sum(edge_counts[index] for index in [*batch, following[0]]) > max_edges
    if not shuffle:
        assert [index for batch in batches for index in batch] == list(range(len(edge_counts)))


@given(edge_count_lists, st.integers(1, 500), epochs, st.integers(2, 5))
def test_ranks_share_every_global_batch(edge_counts, max_edges, epoch, world_size):
    if len(edge_counts) < world_size:
        with pytest.raises(ConfigError, match="cannot be shared"):
            EdgeBatchSampler(edge_counts, max_edges, True, seed=2, world_size=world_size)
        return
    shares = []
    for rank in range(world_size):
        sampler = EdgeBatchSampler(edge_counts, max_edges, True, seed=2, rank=rank, world_size=world_size)
        sampler.set_epoch(epoch)
        shares.append(list(sampler))
        assert len(sampler) == len(shares[0])
    assert all(batch for share in shares for batch in share)
    joined = [sorted(index for batch in parts for index in batch) for parts in zip(*shares, strict=True)]
    assert sorted(index for batch in joined for index in batch) == list(range(len(edge_counts)))
    alone = EdgeBatchSampler(edge_counts, max_edges, True, seed=2)
    alone.set_epoch(epoch)
    if all(len(batch) >= world_size for batch in alone):
        assert joined == [sorted(batch) for batch in alone]


def test_order_depends_on_seed_and_epoch_alone():
    edge_counts = [10] * 50

    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = EdgeBatchSampler(edge_counts, 40, True, seed)
        sampler.set_epoch(7)
        torch.manual_seed(epoch)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 3) == order(0, 3)
    different = [order(0, 0), order(0, 1), order(1, 0), order(1, 1), order(0, 2)]
    assert all(one != other for i, one in enumerate(different) for other in different[:i])


def test_limit_must_be_positive():
    with pytest.raises(ConfigError, match="max_edges is 0"):
        EdgeBatchSampler([1], 0, False, 0)


def test_loader_batches(structures):
    dataset = GraphDataset(structures, CUTOFF)
    limit = int(dataset.edge_counts.max())
    loader = build_loader(dataset, limit, shuffle=True, seed=0)
    loader.batch_sampler.set_epoch(1)
    state = torch.get_rng_state()
    batches = list(loader)
    assert torch.equal(torch.get_rng_state(), state), "loading draws from the global generator"
    assert len(batches) == len(loader) > 2
    assert all(batch.edge_index.shape[1] <= limit for batch in batches)
    assert sorted(torch.cat([batch.energy for batch in batches]).tolist()) == list(range(len(structures)))
    assert [batch.energy.tolist() for batch in batches] == [
        [float(index) for index in indices] for indices in loader.batch_sampler
    ]


def test_worker_processes_give_the_same_batches(store):
    dataset = GraphDataset(store, CUTOFF, kept_bytes=0)
    alone = build_loader(dataset, 200, shuffle=True, seed=3)
    helped = build_loader(dataset, 200, shuffle=True, seed=3, workers=2)
    for epoch in (0, 1):
        for loader in (alone, helped):
            loader.batch_sampler.set_epoch(epoch)
        for one, other in zip(alone, helped, strict=True):
            assert_same_graph(one, other)


def test_ranks_load_what_one_process_loads(structures):
    dataset = GraphDataset(structures, CUTOFF)
    whole = build_loader(dataset, 300, shuffle=True, seed=4)
    shares = [build_loader(dataset, 300, shuffle=True, seed=4, rank=rank, world_size=2) for rank in (0, 1)]
    for batch, *parts in zip(whole, *shares, strict=True):
        energies = np.concatenate([part.energy.numpy() for part in parts])
        np.testing.assert_array_equal(np.sort(energies), np.sort(batch.energy.numpy()))
        assert sum(part.num_nodes for part in parts) == batch.num_nodes
