"""The labelled structures of a run: several files as one sequence, every frame of which knows where it came from."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray

from mlip.data.dataset import GraphDataset, require_labels
from mlip.data.labels import PROPERTIES, LabelKeys
from mlip.data.reading import read_structures
from mlip.data.splitting import split_indices
from mlip.data.store import StructureStore, is_store
from mlip.data.structures import Structure
from mlip.errors import DataError, StructureError
from mlip.models.config import LongRangeConfig
from mlip.training.config import TrainingConfig


class Frames(Sequence[Structure]):
    """Structures of one or more files in a sequence; those of a store are read when they are asked for."""

    def __init__(
        self, paths: Sequence[str], sources: Sequence[Sequence[Structure]], origins: NDArray[np.int64] | None = None
    ) -> None:
        self.paths, self._sources = list(paths), list(sources)
        if origins is None:
            origins = np.concatenate([[(i, j) for j in range(len(source))] for i, source in enumerate(sources)])
        self._origins = origins  # [n, 2]: number of the file, number of the frame in it.

    @classmethod
    def read(cls, paths: Sequence[str], keys: LabelKeys) -> Self:
        """Read files or open stores. Raises FileMissingError, DataError, StructureError."""
        return cls(paths, [StructureStore(path) if is_store(path) else read_structures(path, keys) for path in paths])

    def subset(self, indices: NDArray[np.int64]) -> "Frames":
        """Some of the frames."""
        return Frames(self.paths, self._sources, self._origins[indices])

    def __len__(self) -> int:
        return len(self._origins)

    @overload
    def __getitem__(self, index: int) -> Structure: ...
    @overload
    def __getitem__(self, index: slice) -> "Frames": ...
    def __getitem__(self, index: int | slice) -> "Structure | Frames":
        if isinstance(index, slice):
            return Frames(self.paths, self._sources, self._origins[index])
        source, frame = self._origins[index]
        return self._sources[source][int(frame)]

    def __iter__(self) -> Iterator[Structure]:
        if len(self._sources) == 1 and len(self._sources[0]) == len(self):
            return iter(self._sources[0])  # A store then reads many frames at once.
        return super().__iter__()

    def describe(self, indices: Sequence[int]) -> str:
        """Words such as "frames 4, 17 (water) of sample.xyz": numbers within each file, counted from 0, and kinds."""
        groups: dict[tuple[str, str], list[int]] = defaultdict(list)
        for index in indices:
            source, frame = self._origins[index]
            groups[self.paths[source], self[index].config_type].append(int(frame))
        return " and ".join(
            f"frame{'s' * (len(numbers) > 1)} {', '.join(map(str, sorted(numbers)))}{f' ({kind})' if kind else ''} "
            f"of {Path(path).name}"
            for (path, kind), numbers in groups.items()
        )


def read_frames(config: TrainingConfig) -> tuple[Frames, Frames]:
    """The frames to train on and those to validate on.

    Raises:
        FileMissingError, DataError, StructureError: a file is missing or damaged, or a frame unphysical.
        ConfigError: the fraction set aside for validation leaves one of the parts empty.
    """
    data = config.data
    train = Frames.read(data.train, data.keys)
    if not isinstance(data.validation, float):
        return train, Frames.read(data.validation, data.keys)
    training, aside = split_indices(len(train), data.validation, config.seed)
    return train.subset(training), train.subset(aside)


def require_electrostatics(frames: Frames, long_range: LongRangeConfig, key: str) -> None:
    """Refuse frames whose electrostatic energy a model with charges cannot compute.

    Args:
        frames: The structures.
        long_range: Where the charges come from.
        key: Under which the charges of atoms are read.

    Raises:
        DataError: frames lack charges that the model takes from them.
        StructureError: frames are charged, and periodic in some directions only.
    """
    if long_range.brought:
        missing = [number for number, structure in enumerate(frames) if structure.charges is None]
        if missing:
            raise DataError(
                f"{_some(frames, missing)}: there are no charges under the key '{key}', which the model takes from "
                "structures; add them, name another key by data.keys.charges, or give model.long_range.element_charges"
            )
    if long_range.charges != "fixed":
        infinite = [number for number, structure in enumerate(frames) if _is_charged_slab(structure)]
        if infinite:
            raise StructureError(
                f"{_some(frames, infinite)}: the total charge is not zero and the structure periodic in some "
                "directions only, so that its energy is infinite; make it neutral, or periodic in all directions"
            )


def _is_charged_slab(structure: Structure) -> bool:
    return structure.total_charge != 0.0 and bool(structure.pbc.any()) and not bool(structure.pbc.all())


def _some(frames: Frames, numbers: list[int]) -> str:
    """Description of the first few frames."""
    return frames.describe(numbers[:5]) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")


def build_datasets(train: Frames, validation: Frames, config: TrainingConfig) -> tuple[GraphDataset, GraphDataset]:
    """Graphs of both sets. Raises DataError where no frame has a label that the loss gives weight."""
    weights = config.loss.largest_weights()
    wanted = [name for name in PROPERTIES if weights[name] > 0]
    datasets = []
    for frames in (train, validation):
        dataset = GraphDataset(frames, config.model.cutoff)
        require_labels(dataset, wanted, frames.paths[0], config.data.keys)
        datasets.append(dataset)
    return datasets[0], datasets[1]
