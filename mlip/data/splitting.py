"""Random parts of a data set, the same for the same seed, as indices or as files."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from ase.io.extxyz import write_xyz
from numpy.typing import NDArray

from mlip.data.files import written_beside
from mlip.data.frames import iterate_frame_texts
from mlip.data.reading import check_exists, is_xyz, iterate_atoms
from mlip.data.store import StoreWriter, StructureStore, is_store
from mlip.errors import ConfigError


def partition_indices(n: int, fractions: Sequence[float], seed: int) -> list[NDArray[np.int64]]:
    """Deal the numbers 0 … n−1 at random into parts of the given fractions; each part ascends.

    Sizes are rounded such that they add up to n. Raises ConfigError for fractions that are negative or do not add up
    to 1, and for a part that should have members but would stay empty.
    """
    if not all(fraction >= 0 for fraction in fractions) or not np.isclose(sum(fractions), 1.0):
        listed = " ".join(f"{fraction:g}" for fraction in fractions)
        raise ConfigError(f"the fractions {listed} add up to {sum(fractions):g}; give positive ones that add up to 1")
    bounds = np.rint(np.concatenate(([0.0], np.cumsum(fractions))) * n).astype(int)
    for fraction, size in zip(fractions, np.diff(bounds), strict=True):
        if fraction > 0 and size == 0:
            raise ConfigError(f"a fraction {fraction:g} of {n} structures is none; give a larger fraction or more data")
    order = np.random.default_rng(seed).permutation(n).astype(np.int64)
    return [np.sort(order[start:stop]) for start, stop in pairwise(bounds)]


def split_indices(n: int, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of what remains, and of the `fraction` of n structures that is set aside, for example for validation.

    Raises ConfigError for a fraction outside [0, 1], or one that would leave either part empty.
    """
    if not 0 <= fraction <= 1:
        raise ConfigError(f"the fraction {fraction:g} is not between 0 and 1; give for example 0.1")
    remaining, aside = partition_indices(n, (1 - fraction, fraction), seed)
    return remaining, aside


PARTS = ("train", "validation", "test")


def split_names(file: str | Path, prefix: str | Path, fractions: Sequence[float]) -> list[Path]:
    """Names of the files that `split_file` writes: PREFIX_train and so on, for the fractions that are not 0."""
    suffix = Path(file).suffix if is_store(file) or Path(file).suffix == ".extxyz" else ".xyz"
    return [Path(f"{prefix}_{part}{suffix}") for part, fraction in zip(PARTS, fractions, strict=True) if fraction]


def split_file(
    file: str | Path,
    names: Sequence[Path],
    fractions: Sequence[float],
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> list[int]:
    """Split a data set at random into files; returns the number of structures in each.

    `names` are those of `split_names`. A store is split into stores; frames of an XYZ file are copied as they stand,
    with everything in them; any other format is written as extended XYZ. The files appear when all are complete.
    `advance` is called after each structure.
    Raises what reading does, and ConfigError for fractions that do not add up or leave a part empty.
    """
    check_exists(file)
    frames, open_part = _kind(file)
    parts = partition_indices(sum(1 for _ in frames()), [fraction for fraction in fractions if fraction], seed)
    part_of = np.empty(sum(map(len, parts)), dtype=np.int64)
    for number, indices in enumerate(parts):
        part_of[indices] = number
    with ExitStack() as opened:
        writers = [opened.enter_context(open_part(name)) for name in names]
        for number, frame in zip(part_of.tolist(), frames(), strict=True):
            writers[number](frame)
            advance()
    return [len(indices) for indices in parts]


Opener = Callable[[Path], Any]


def _kind(file: str | Path) -> tuple[Callable[[], Iterator[Any]], Opener]:
    """How the frames of a file are read, and how those of a part are written, without loss."""
    if is_store(file):
        return lambda: iter(StructureStore(file)), _open_store
    if is_xyz(file):
        return lambda: iterate_frame_texts(file), _open_text
    return lambda: iterate_atoms(file), _open_atoms


@contextmanager
def _open_store(path: Path) -> Iterator[Callable[[Any], None]]:
    with StoreWriter(path) as writer:
        yield writer.add


@contextmanager
def _open_text(path: Path) -> Iterator[Callable[[Any], Any]]:
    with written_beside(path) as partial, partial.open("w") as file:
        yield file.write


@contextmanager
def _open_atoms(path: Path) -> Iterator[Callable[[Any], None]]:
    with written_beside(path) as partial, partial.open("w") as file:
        yield lambda atoms: write_xyz(file, [atoms])
