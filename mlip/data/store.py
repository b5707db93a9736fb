"""Structures in one HDF5 file: random access, larger than memory, appendable, safe to read from many processes.

Two tables hold everything. `frames` has a row for each structure (first atom, number of atoms, cell, labels, a mask
for each label), `atoms` a row for each atom; the atoms of a structure are neighbours there, so that it is read by two
slices. `metadata` is JSON: package version, units, kinds of configuration, and the source and key map of every
import. Both tables carry checksums, so that damage is noticed rather than learnt from.
"""

import io
import json
import os
import shutil
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, Self, overload

import h5py
import numpy as np
from numpy.typing import NDArray

from mlip._version import __version__
from mlip.data.files import written_beside
from mlip.data.labels import PER_ATOM, PROPERTIES, LabelKeys
from mlip.data.structures import Structure
from mlip.errors import DataError, FileMissingError, MLIPError

FORMAT = "mlip structures"
FORMAT_VERSION = 2
_WITHOUT_CHARGES = 1  # An earlier format, which is still read.
UNITS = {
    "length": "angstrom",
    "energy": "eV",
    "forces": "eV/angstrom",
    "stress": "eV/angstrom^3, sign of ASE",
    "charge": "e",
}
SUFFIXES = (".h5", ".hdf5")

_FRAME = np.dtype(
    [
        ("first_atom", "<i8"),
        ("atom_count", "<i8"),
        ("cell", "<f8", (3, 3)),
        ("pbc", "u1", (3,)),
        ("energy", "<f8"),
        ("stress", "<f8", (3, 3)),
        ("has_energy", "u1"),
        ("has_forces", "u1"),
        ("has_stress", "u1"),
        ("weight", "<f8"),
        ("config_type", "<i4"),
        ("total_charge", "<f8"),
        ("dipole", "<f8", (3,)),
        ("has_charges", "u1"),
        ("has_dipole", "u1"),
    ]
)
_ATOM = np.dtype([("number", "u1"), ("position", "<f8", (3,)), ("forces", "<f8", (3,)), ("charges", "<f8")])
_CHARGE_COLUMNS = ("total_charge", "dipole", "has_charges", "has_dipole", "charges")


def _before_charges(columns: "np.dtype[np.void]") -> "np.dtype[np.void]":
    """The columns that a table had before there were charges."""
    return np.dtype([(name, columns[name]) for name in columns.names or () if name not in _CHARGE_COLUMNS])


_WRITTEN = {FORMAT_VERSION: (_FRAME, _ATOM), _WITHOUT_CHARGES: (_before_charges(_FRAME), _before_charges(_ATOM))}
_BLOCK = 512  # structures that are read or written together


def is_store(path: str | Path) -> bool:
    """Whether a path names a store, by its suffix."""
    return Path(path).suffix.lower() in SUFFIXES


_open_stores: "weakref.WeakSet[StructureStore]" = weakref.WeakSet()


def _close_stores() -> None:
    for store in list(_open_stores):
        store.close()


# An HDF5 handle shared by two processes corrupts both of their reads; each opens its own when it needs one.
os.register_at_fork(before=_close_stores)


class StructureStore(Sequence[Structure]):
    """A store opened for reading: a sequence of `Structure`, of which only those asked for are read.

    The file is opened at the first read, once a process; the store may be pickled or forked. Raises FileMissingError,
    or DataError for a file that is truncated, damaged, of another kind or of a later format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._handle: h5py.File | None = None
        if not self.path.exists():
            raise FileMissingError(f"there is no store {self.path}; check the path, or make it with mlip data import")
        with self._reading():
            file = self._file()
            self.version = _check_format(file, self.path)
            self.metadata: dict[str, Any] = json.loads(file["metadata"][()])
            frames, atoms = file["frames"], file["atoms"]
            if (frames.dtype, atoms.dtype) != _WRITTEN[self.version]:
                raise ValueError("its tables have other columns")
            self._span = range(len(frames))
            last = frames[-1] if len(frames) else np.zeros((), _FRAME)
            if last["first_atom"] + last["atom_count"] != len(atoms):
                raise ValueError("its tables do not fit together")

    def __len__(self) -> int:
        return len(self._span)

    @overload
    def __getitem__(self, index: int) -> Structure: ...
    @overload
    def __getitem__(self, index: slice) -> list[Structure]: ...
    def __getitem__(self, index: int | slice) -> Structure | list[Structure]:
        if not isinstance(index, slice):
            row = self._span[index]
            return self._read(row, row + 1)[0]
        rows = self._span[index]
        if rows.step == 1:
            return self._read(rows.start, rows.stop) if len(rows) else []
        return [self._read(row, row + 1)[0] for row in rows]

    def __iter__(self) -> Iterator[Structure]:
        for start in range(0, len(self), _BLOCK):
            yield from self[start : start + _BLOCK]

    def shard(self, rank: int, world_size: int) -> Self:
        """The contiguous part of the store that falls to one of `world_size` processes; parts differ by one at most."""
        bounds = [len(self) * part // world_size for part in (rank, rank + 1)]
        part = copy(self)
        part._handle = None
        part._span = self._span[bounds[0] : bounds[1]]
        return part

    @property
    def num_atoms(self) -> NDArray[np.int64]:
        """Number of atoms of each structure [n]."""
        return self._column("atom_count").astype(np.int64)

    @property
    def label_counts(self) -> dict[str, int]:
        """How many structures have each label."""
        return {name: int(self._column(f"has_{name}").sum()) for name in PROPERTIES}

    def close(self) -> None:
        """Give the file handle back; the next read opens it again."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def _column(self, name: str) -> NDArray[Any]:
        if self.version == _WITHOUT_CHARGES and name in _CHARGE_COLUMNS:
            return np.zeros(len(self._span), _FRAME[name])
        with self._reading():
            return np.asarray(self._file()["frames"].fields(name)[self._span.start : self._span.stop])

    def _read(self, start: int, stop: int) -> list[Structure]:
        with self._reading():
            file = self._file()
            frames = _as_now(file["frames"][start:stop], _FRAME)
            first = frames[0]["first_atom"]
            atoms = _as_now(file["atoms"][first : frames[-1]["first_atom"] + frames[-1]["atom_count"]], _ATOM)
            begins = frames["first_atom"] - first
            kinds = self.metadata["config_types"]
            return [
                _unpack(frame, atoms[begin : begin + frame["atom_count"]], kinds)
                for frame, begin in zip(frames, begins, strict=True)
            ]

    def _file(self) -> h5py.File:
        if self._handle is None:
            self._handle = h5py.File(self.path, "r")
            _open_stores.add(self)
        return self._handle

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            if isinstance(error, MLIPError):
                raise
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"the store {self.path} is truncated or damaged ({reason}); import its sources again"
            ) from error


def _as_now(rows: NDArray[Any], columns: "np.dtype[np.void]") -> NDArray[Any]:
    """Rows of a table of any format that is read, with the columns of the present one."""
    if rows.dtype == columns:
        return rows
    table = np.zeros(len(rows), columns)
    for name in rows.dtype.names or ():
        table[name] = rows[name]
    return table


def _check_format(file: h5py.File, path: Path) -> int:
    if file.attrs.get("format") != FORMAT:
        raise DataError(f"{path} is an HDF5 file, but no store of structures; make one with mlip data import")
    version = int(file.attrs["format_version"])
    if version not in _WRITTEN:
        raise DataError(
            f"the store {path} has format {version}, and this version reads formats up to {FORMAT_VERSION}; "
            "import its sources again, or use the version that wrote it"
        )
    return version


def _unpack(frame: np.void, atoms: NDArray[Any], config_types: list[str]) -> Structure:
    return Structure(
        numbers=atoms["number"].astype(np.int64),
        positions=atoms["position"].copy(),
        cell=frame["cell"].copy(),
        pbc=frame["pbc"].astype(bool),
        energy=float(frame["energy"]) if frame["has_energy"] else None,
        forces=atoms["forces"].copy() if frame["has_forces"] else None,
        stress=frame["stress"].copy() if frame["has_stress"] else None,
        weight=float(frame["weight"]),
        config_type=config_types[frame["config_type"]],
        total_charge=float(frame["total_charge"]),
        charges=atoms["charges"].copy() if frame["has_charges"] else None,
        dipole=frame["dipole"].copy() if frame["has_dipole"] else None,
    )


def _create_tables(file: h5py.File) -> None:
    file.attrs["format"] = FORMAT
    file.attrs["format_version"] = FORMAT_VERSION
    for name, columns, chunk in (("frames", _FRAME, 256), ("atoms", _ATOM, 2048)):
        file.create_dataset(name, shape=(0,), maxshape=(None,), dtype=columns, chunks=(chunk,), fletcher32=True)


class _PatientFile(io.FileIO):
    """A file that keeps what goes wrong in writing until `check`, which closing it does too.

    HDF5 cannot close a file it failed to write to: it crashes the process. So it is told that all is well, and the
    remains are thrown away.
    """

    error: BaseException | None = None

    def write(self, data: Any) -> int:
        """Write all of `data`, or note why not (a full disk, Ctrl-C)."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while self.error is None and len(rest):
                rest = rest[super().write(rest) :]
        except BaseException as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the size of the file, or note why not."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = error
        return size or 0

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.check()  # goes before what HDF5 complains of when it reads what was never written

    def check(self) -> None:
        """Raise what went wrong since the file was opened."""
        if isinstance(self.error, OSError):
            raise OSError(self.error.errno, self.error.strerror, self.name)
        if self.error is not None:
            raise self.error


def _require_current(store: StructureStore) -> None:
    store.close()
    if store.version != FORMAT_VERSION:
        raise DataError(
            f"the store {store.path} has format {store.version} and structures are appended in format "
            f"{FORMAT_VERSION}; import the store into a new one first"
        )


class StoreWriter:
    """Writes a store, or appends to one: `with StoreWriter(path) as writer: writer.add(structure)`.

    All of it goes to `NAME.partial`, which takes the name when the block ends without an error, so that a kill, Ctrl-C
    or a full disk leaves the old file as it was. Appending copies the old file first for the same reason: HDF5 updates
    its indices in place, and a file whose writing was cut short may not open at all.
    Raises FileMissingError for appending to nothing, DataError for appending to what is no store of this format.
    """

    def __init__(self, path: str | Path, append: bool = False) -> None:
        self.path = Path(path)
        self._append = append
        self._pending: list[Structure] = []
        self._opened = self._open()

    def __enter__(self) -> Self:
        self._opened.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._opened.__exit__(*error)

    @contextmanager
    def _open(self) -> Iterator[None]:
        if self._append:
            _require_current(StructureStore(self.path))
        with written_beside(self.path) as partial:
            if self._append:
                shutil.copyfile(self.path, partial)
            with (
                _PatientFile(partial, "r+" if self._append else "w+") as self._disk,
                h5py.File(self._disk, "r+" if self._append else "w") as self._file,
            ):
                self._metadata: dict[str, Any] = {"units": UNITS, "config_types": [], "sources": []}
                if self._append:
                    self._metadata = json.loads(self._file["metadata"][()])
                else:
                    _create_tables(self._file)
                self._config_types = {name: code for code, name in enumerate(self._metadata["config_types"])}
                self._atom_total = len(self._file["atoms"])
                yield
                self._finish()

    def add(self, structure: Structure) -> None:
        """Append one structure."""
        self._pending.append(structure)
        if len(self._pending) == _BLOCK:
            self._flush()

    def add_source(self, source: str, keys: LabelKeys | None, count: int) -> None:
        """Note where `count` structures came from and under which keys their labels stood (None: in a store)."""
        stood = keys.model_dump() if keys is not None else None
        self._metadata["sources"].append({"file": source, "keys": stood, "structures": count})

    def _finish(self) -> None:
        self._flush()
        self._metadata |= {"version": __version__, "config_types": list(self._config_types)}
        if self._append:
            del self._file["metadata"]
        self._file["metadata"] = json.dumps(self._metadata)

    def _flush(self) -> None:
        if not self._pending:
            return
        frames = np.zeros(len(self._pending), _FRAME)
        atoms = np.zeros(sum(map(len, self._pending)), _ATOM)
        begin = 0
        for frame, structure in zip(frames, self._pending, strict=True):
            end = begin + len(structure)
            _pack(structure, frame, atoms[begin:end])
            frame["first_atom"] = self._atom_total + begin
            frame["config_type"] = self._config_types.setdefault(structure.config_type, len(self._config_types))
            begin = end
        for name, rows in (("atoms", atoms), ("frames", frames)):
            table = self._file[name]
            table.resize(len(table) + len(rows), axis=0)
            table[len(table) - len(rows) :] = rows
        self._atom_total += len(atoms)
        self._pending.clear()
        self._disk.check()


def _pack(structure: Structure, frame: np.void, atoms: NDArray[Any]) -> None:
    frame["atom_count"] = len(structure)
    frame["cell"], frame["pbc"] = structure.cell, structure.pbc
    frame["weight"], frame["total_charge"] = structure.weight, structure.total_charge
    atoms["number"], atoms["position"] = structure.numbers, structure.positions
    for name in PROPERTIES:
        row = atoms if name in PER_ATOM else frame
        label = getattr(structure, name)
        frame[f"has_{name}"] = label is not None
        row[name] = np.nan if label is None else label
