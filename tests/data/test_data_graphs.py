"""Graphs and their batches; PyG's own collation is the independent reference."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from mlip.data.graphs import AtomicGraph, Batch, build_graph, collate_graphs
from mlip.data.labels import PROPERTIES, LabelKeys
from mlip.data.structures import Structure

CUTOFF = 3.0


def labelled(atoms: Atoms, seed: int = 0, **info) -> Structure:
    rng = np.random.default_rng(seed)
    atoms.info.update(energy=rng.normal(), stress=rng.normal(size=6), **info)
    atoms.arrays["forces"] = rng.normal(size=(len(atoms), 3))
    return Structure.from_atoms(atoms, LabelKeys())


@pytest.fixture
def graphs() -> list[AtomicGraph]:
    structures = [
        labelled(molecule("CH3CH2OH"), 1, config_type="molecule"),
        Structure.from_atoms(Atoms("H")),
        labelled(bulk("Si"), 2, weight=2.5),
        Structure.from_atoms(molecule("H2O")),
    ]
    return [build_graph(structure, CUTOFF) for structure in structures]


def test_shapes_types_and_labels():
    structure = replace(
        labelled(bulk("NaCl", "rocksalt", a=5.6), weight=0.5, config_type="salt"),
        total_charge=1.0,
        charges=np.array([0.8, 0.2]),
        dipole=np.array([1.0, 2.0, 3.0]),
    )
    graph = build_graph(structure, CUTOFF)
    edges = graph.edge_index.shape[1]
    shapes = {
        "positions": (2, 3),
        "atomic_numbers": (2,),
        "edge_index": (2, edges),
        "edge_offsets": (edges, 3),
        "cell": (1, 3, 3),
        "pbc": (1, 3),
        "energy": (1,),
        "forces": (2, 3),
        "stress": (1, 3, 3),
        "has_energy": (1,),
        "has_forces": (1,),
        "has_stress": (1,),
        "total_charge": (1,),
        "charges": (2,),
        "dipole": (1, 3),
        "has_charges": (1,),
        "has_dipole": (1,),
        "weight": (1,),
    }
    assert {name: tuple(graph[name].shape) for name in shapes} == shapes
    integer, boolean = {"atomic_numbers", "edge_index"}, {"pbc", *(f"has_{name}" for name in PROPERTIES)}
    for name in shapes:
        expected = torch.int64 if name in integer else torch.bool if name in boolean else torch.float64
        assert graph[name].dtype == expected, name
    assert edges == 12  # rock salt: six neighbours an ion
    assert graph.energy.item() == structure.energy
    assert torch.equal(graph.stress[0], torch.tensor(structure.stress))
    assert graph.weight.item() == 0.5
    assert graph.total_charge.item() == 1.0
    assert graph.charges.tolist() == [0.8, 0.2]
    assert graph.dipole.tolist() == [[1.0, 2.0, 3.0]]
    assert graph.config_type == "salt"


def test_absent_labels_are_nan_and_masked():
    graph = build_graph(Structure.from_atoms(molecule("H2O")), CUTOFF)
    assert not any(graph[f"has_{name}"].any() for name in PROPERTIES)
    assert all(torch.isnan(graph[name]).all() for name in PROPERTIES)
    assert graph.total_charge.item() == 0.0


def test_edge_vectors_are_real_distances():
    atoms = bulk("Cu", a=3.6)
    graph = build_graph(Structure.from_atoms(atoms), 3.0)
    sender, receiver = graph.edge_index
    vectors = graph.positions[sender] + graph.edge_offsets - graph.positions[receiver]
    assert len(vectors) == 12
    torch.testing.assert_close(vectors.norm(dim=1), torch.full((12,), 3.6 / 2**0.5, dtype=torch.float64))
    assert torch.all(receiver.diff() >= 0)


def test_collation_equals_pyg(graphs):
    ours, reference = collate_graphs(graphs), Batch.from_data_list(graphs)
    assert type(ours) is type(reference)
    assert isinstance(ours, Batch)
    assert set(ours.keys()) == set(reference.keys())
    for name in reference.keys():  # noqa: SIM118 (a Batch iterates over pairs)
        if isinstance(reference[name], torch.Tensor):
            torch.testing.assert_close(ours[name], reference[name], rtol=0, atol=0, equal_nan=True)
        else:
            assert ours[name] == reference[name]
    assert ours.num_graphs == reference.num_graphs == 4
    assert ours.num_nodes == reference.num_nodes


def test_batch_can_be_taken_apart(graphs):
    for original, restored in zip(graphs, collate_graphs(graphs).to_data_list(), strict=True):
        assert isinstance(restored, AtomicGraph)
        for name, value in original:
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(restored[name], value, rtol=0, atol=0, equal_nan=True)
            else:
                assert restored[name] == value


def test_edges_of_a_batch_stay_within_a_graph_and_sorted(graphs):
    batch = collate_graphs(graphs)
    sender, receiver = batch.edge_index
    assert torch.equal(batch.batch[sender], batch.batch[receiver])
    assert torch.all(receiver.diff() >= 0)


def test_collation_leaves_its_graphs_alone_and_pickles(graphs):
    before = [graph.edge_index.clone() for graph in graphs]
    batch = pickle.loads(pickle.dumps(collate_graphs(graphs)))
    assert all(torch.equal(graph.edge_index, old) for graph, old in zip(graphs, before, strict=True))
    assert batch.num_graphs == 4
    assert collate_graphs(graphs[:1]).edge_index.data_ptr() != graphs[0].edge_index.data_ptr()


def test_graph_does_not_share_memory_with_the_structure():
    structure = Structure.from_atoms(molecule("H2O"))
    graph = build_graph(structure, CUTOFF)
    graph.positions += 1.0
    np.testing.assert_array_equal(structure.positions, molecule("H2O").positions)
