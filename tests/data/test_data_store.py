"""The HDF5 store: nothing is lost or changed, whatever interrupts its writing, and damage is noticed."""

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from mlip.data import store as store_module
from mlip.data.files import partial_path
from mlip.data.labels import PROPERTIES, LabelKeys
from mlip.data.reading import iterate_structures
from mlip.data.store import StoreWriter, StructureStore
from mlip.data.structures import Structure
from mlip.errors import DataError, FileMissingError


def random_structures(count: int, seed: int = 0) -> list[Structure]:
    """Of 1 to 12 atoms, each with its own mixture of labels, periodicity and kind."""
    rng = np.random.default_rng(seed)
    structures = []
    for _ in range(count):
        atoms = rng.integers(1, 13)
        structures.append(
            Structure(
                numbers=rng.integers(1, 119, atoms),
                positions=rng.normal(size=(atoms, 3)) * 9,
                cell=rng.normal(size=(3, 3)),
                pbc=rng.random(3) < 0.5,
                energy=float(rng.normal()) if rng.random() < 0.7 else None,
                forces=rng.normal(size=(atoms, 3)) if rng.random() < 0.6 else None,
                stress=rng.normal(size=(3, 3)) if rng.random() < 0.4 else None,
                weight=float(rng.random()),
                config_type=str(rng.choice(["", "water", "Grünkohl [bold]"])),
                total_charge=float(rng.integers(-2, 3)),
                charges=rng.normal(size=atoms) if rng.random() < 0.5 else None,
                dipole=rng.normal(size=3) if rng.random() < 0.5 else None,
            )
        )
    return structures


def assert_equal(found: Structure, expected: Structure) -> None:
    for field in fields(Structure):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        assert (one is None) == (other is None), field.name
        np.testing.assert_array_equal(one, other, err_msg=field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype, field.name
            assert one.flags.c_contiguous, field.name


def write(path: Path, structures: Iterable[Structure], append: bool = False) -> StructureStore:
    with StoreWriter(path, append=append) as writer:
        for structure in structures:
            writer.add(structure)
    return StructureStore(path)


@pytest.fixture(scope="module")
def structures() -> list[Structure]:
    return random_structures(40)


@pytest.fixture
def path(tmp_path, structures) -> Path:
    write(tmp_path / "data.h5", structures)
    return tmp_path / "data.h5"


def test_every_bit_comes_back(path, structures):
    store = StructureStore(path)
    assert len(store) == len(structures)
    for index, expected in enumerate(structures):
        assert_equal(store[index], expected)
    for found, expected in zip(store, structures, strict=True):
        assert_equal(found, expected)
    for found, expected in zip(iterate_structures(path), structures, strict=True):
        assert_equal(found, expected)
    assert not partial_path(path).exists()


def test_sequence_access(path, structures):
    store = StructureStore(path)
    assert_equal(store[-1], structures[-1])
    assert_equal(store[np.int64(3)], structures[3])
    for span in (slice(5, 9), slice(None, None, 7), slice(-4, None), slice(3, 3), slice(9, 2, -2)):
        found, expected = store[span], structures[span]
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    with pytest.raises(IndexError):
        store[len(structures)]
    np.testing.assert_array_equal(store.num_atoms, [len(structure) for structure in structures])
    assert store.label_counts == {
        name: sum(getattr(structure, name) is not None for structure in structures) for name in PROPERTIES
    }


def test_blocks_of_writing_and_reading_do_not_show(path, structures, monkeypatch):
    monkeypatch.setattr(store_module, "_BLOCK", 7)
    store = write(path.with_name("small-blocks.h5"), structures)
    for found, expected in zip(store, structures, strict=True):
        assert_equal(found, expected)


def test_a_slice_reads_only_its_rows(path, structures, monkeypatch):
    read = []
    original = h5py.Dataset.__getitem__

    def spy(dataset, key):
        rows = original(dataset, key)
        read.append((dataset.name, len(rows)))
        return rows

    store = StructureStore(path)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
    store[10:13]
    assert read == [("/frames", 3), ("/atoms", sum(map(len, structures[10:13])))]


@pytest.mark.parametrize("world_size", [1, 3, 7, 40, 64])
def test_shards_are_a_partition_in_order(path, structures, world_size):
    store = StructureStore(path)
    shards = [store.shard(rank, world_size) for rank in range(world_size)]
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    joined = [structure for shard in shards for structure in shard]
    for found, expected in zip(joined, structures, strict=True):
        assert_equal(found, expected)
    assert sum(shard.label_counts["energy"] for shard in shards) == store.label_counts["energy"]
    assert np.concatenate([shard.num_atoms for shard in shards]).tolist() == store.num_atoms.tolist()


def test_append_and_metadata(path, structures):
    more = [replace(structure, config_type="later") for structure in random_structures(5, seed=1)]
    with StoreWriter(path, append=True) as writer:
        for structure in more:
            writer.add(structure)
        writer.add_source("later.xyz", LabelKeys(energy="E"), 5)
    store = StructureStore(path)
    for found, expected in zip(store, structures + more, strict=True):
        assert_equal(found, expected)
    keys = {name: name for name in PROPERTIES} | {"energy": "E", "total_charge": "charge"}
    assert store.metadata["sources"] == [{"file": "later.xyz", "keys": keys, "structures": 5}]
    assert store.metadata["units"]["energy"] == "eV"
    assert "version" in store.metadata


def test_append_needs_a_store(tmp_path):
    with pytest.raises(FileMissingError, match=r"none\.h5"), StoreWriter(tmp_path / "none.h5", append=True):
        pass
    (tmp_path / "text.h5").write_text("not a store")
    with pytest.raises(DataError, match=r"text\.h5"), StoreWriter(tmp_path / "text.h5", append=True):
        pass
    assert sorted(item.name for item in tmp_path.iterdir()) == ["text.h5"]


def test_an_empty_store(tmp_path):
    store = write(tmp_path / "empty.h5", [])
    assert (len(store), list(store), store.label_counts["energy"]) == (0, [], 0)


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError, OSError])
def test_an_interrupted_writer_leaves_the_old_file(path, structures, append, error):
    before = path.read_bytes()

    def interrupted():
        yield from structures
        raise error("stop")

    with pytest.raises(error, match="stop"):
        write(path, interrupted(), append)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from test_data_store import random_structures
from mlip.data import store
store._BLOCK = 4
with store.StoreWriter(sys.argv[1], append=sys.argv[3] == "append") as writer:
    for structure in random_structures(30, seed=2):
        writer.add(structure)
    os.kill(os.getpid(), signal.SIGKILL)
"""

FULL_DISK = """
import errno, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_data_store import random_structures
from mlip.data.store import StoreWriter
path = Path(sys.argv[1])
before = path.read_bytes()
structures = random_structures(600, seed=3)
for size in (100, 30_000, 60_000, 150_000, 200_000, 300_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    for append in (False, True):
        try:
            with StoreWriter(path, append=append) as writer:
                for structure in structures:
                    writer.add(structure)
        except OSError as error:
            assert error.errno == errno.EFBIG and path.name in str(error.filename), error
        else:
            raise AssertionError("a store larger than the disk was written")
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]
"""


def run(script: str, path: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", textwrap.dedent(script), str(path), str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("mode", ["overwrite", "append"])
def test_a_killed_writer_leaves_the_old_file(path, structures, mode):
    before = path.read_bytes()
    assert run(KILLED, path, mode).returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert partial_path(path).exists()
    more = random_structures(3, seed=4)
    store = write(path, more, append=True)  # the remains of the killed one are no obstacle
    for found, expected in zip(store, structures + more, strict=True):
        assert_equal(found, expected)
    assert not partial_path(path).exists()


def test_a_full_disk_leaves_the_old_file(path):
    """In a process of its own, for its limit on the size of files and because HDF5 used to crash here."""
    process = run(FULL_DISK, path)
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_truncated_store(path, kept):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(DataError, match=r"the store .*data\.h5 is truncated or damaged"):
        StructureStore(path)


def test_flipped_bits_are_noticed(path, structures):
    whole = path.read_bytes()
    at = whole.index(structures[20].positions[0].tobytes())
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    store = StructureStore(path)
    with pytest.raises(DataError, match=r"data\.h5 is truncated or damaged"):
        store[20]


def test_foreign_and_future_files(path, tmp_path):
    foreign = tmp_path / "foreign.h5"
    with h5py.File(foreign, "w") as file:
        file["frames"] = np.arange(5)
    with pytest.raises(DataError, match=r"foreign\.h5 is an HDF5 file, but no store"):
        StructureStore(foreign)
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(DataError, match="has format 99, and this version reads formats up to 2"):
        StructureStore(path)
    with pytest.raises(FileMissingError, match=r"nowhere\.h5"):
        StructureStore(tmp_path / "nowhere.h5")


def write_without_charges(path: Path, structures: list[Structure]) -> None:
    """A store of the first format, which had no charges."""
    frames = np.zeros(
        len(structures),
        [
            *(("first_atom", "<i8"), ("atom_count", "<i8"), ("cell", "<f8", (3, 3)), ("pbc", "u1", (3,))),
            *(("energy", "<f8"), ("stress", "<f8", (3, 3))),
            *(("has_energy", "u1"), ("has_forces", "u1"), ("has_stress", "u1"), ("weight", "<f8")),
            ("config_type", "<i4"),
        ],
    )
    atoms = np.zeros(sum(map(len, structures)), [("number", "u1"), ("position", "<f8", (3,)), ("forces", "<f8", (3,))])
    begin = 0
    for frame, structure in zip(frames, structures, strict=True):
        frame["first_atom"], frame["atom_count"] = begin, len(structure)
        frame["energy"], frame["has_energy"], frame["weight"] = structure.energy, 1, 1.0
        rows = atoms[begin : begin + len(structure)]
        rows["number"], rows["position"] = structure.numbers, structure.positions
        begin += len(structure)
    with h5py.File(path, "w") as file:
        file.attrs["format"], file.attrs["format_version"] = "mlip structures", 1
        file["frames"], file["atoms"] = frames, atoms
        file["metadata"] = json.dumps({"units": {}, "config_types": [""], "sources": []})


def test_a_store_from_before_there_were_charges(tmp_path):
    old = [
        Structure(structure.numbers, structure.positions, energy=float(number))
        for number, structure in enumerate(random_structures(6))
    ]
    write_without_charges(tmp_path / "old.h5", old)
    store = StructureStore(tmp_path / "old.h5")
    for found, expected in zip(store, old, strict=True):
        assert_equal(found, expected)
    assert store.label_counts == {"energy": 6, "forces": 0, "stress": 0, "charges": 0, "dipole": 0}
    with (
        pytest.raises(DataError, match="has format 1 and structures are appended in format 2"),
        StoreWriter(tmp_path / "old.h5", append=True),
    ):
        pass
    write(tmp_path / "new.h5", store)
    for found, expected in zip(StructureStore(tmp_path / "new.h5"), old, strict=True):
        assert_equal(found, expected)


@pytest.mark.parametrize("spoil", ["missing table", "other columns", "short table", "bad metadata"])
def test_inconsistent_tables(path, spoil):
    with h5py.File(path, "r+") as file:
        if spoil == "missing table":
            del file["atoms"]
        elif spoil == "other columns":
            del file["frames"]
            file["frames"] = np.zeros(40)
        elif spoil == "short table":
            file["atoms"].resize(len(file["atoms"]) - 1, axis=0)
        else:
            del file["metadata"]
            file["metadata"] = "{"
    with pytest.raises(DataError, match=r"data\.h5 is truncated or damaged"):
        StructureStore(path)


def read_energies(store: StructureStore, queue) -> None:
    queue.put([structure.energy for structure in store])


def test_forked_processes_read_with_a_handle_of_their_own(path, structures):
    store = StructureStore(path)
    assert store[0].energy == structures[0].energy
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=read_energies, args=(store, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert found == [[structure.energy for structure in structures]] * 2
    assert store[1].energy == structures[1].energy


def test_pickle_and_close(path, structures):
    store = StructureStore(path)
    copied = pickle.loads(pickle.dumps(store.shard(1, 2)))
    assert_equal(copied[0], structures[20])
    store.close()
    store.close()
    assert_equal(store[0], structures[0])
