"""What depends on cells, boxes and tolerance alone, made once and kept: bases and kernels."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import TypeVar

import torch
from torch import Tensor

from mlip.electrostatics.bases import Basis, OpenBasis, PeriodicBasis
from mlip.electrostatics.boxes import Interval, interval
from mlip.electrostatics.frame import Frame, frame_of
from mlip.electrostatics.inputs import ChargedStructures, Periodicity
from mlip.electrostatics.long_range_kernels import LongRangeKernel, MixedKernel, PeriodicKernel
from mlip.electrostatics.open_axis import OpenAxis
from mlip.electrostatics.separable import SeparableSum
from mlip.electrostatics.separation import Separation, gaussian_nodes, open_axes, rounded_down
from mlip.errors import StructureError

_MOST_KEPT = 32
_Value = TypeVar("_Value")


class Expansions:
    """Makes the long-range parts of structures, and keeps what will be needed again."""

    def __init__(self, memory: float) -> None:
        """With the bytes that the matrices of a box may take."""
        self._memory = memory
        self._kernels: OrderedDict[Hashable, LongRangeKernel] = OrderedDict()
        self._axes: OrderedDict[Hashable, tuple[Tensor, Tensor, list[OpenAxis]]] = OrderedDict()
        self._boxes: OrderedDict[Hashable, list[Interval]] = OrderedDict()

    def separable_sums(
        self, structures: ChargedStructures, separation: Separation
    ) -> list[tuple[list[int], SeparableSum]]:
        """The long-range parts, each with the numbers of the structures that it is of.

        Structures that are periodic in all directions and have as many harmonics are of one part.
        """
        frames = [frame_of(structures.cells[number], pbc) for number, pbc in enumerate(structures.pbc)]
        groups: dict[Hashable, list[int]] = {}
        for number, frame in enumerate(frames):
            alike = separation.harmonics(frame) if frame.periodic == 3 else number
            groups.setdefault(alike, []).append(number)
        sums = []
        for numbers in groups.values():
            part = structures.subset(numbers)
            sums.append(
                (numbers, self._sum_of(part, [frames[number] for number in numbers], separation, part.positions))
            )
        return sums

    def covering(self, structure: ChargedStructures, separation: Separation, places: Tensor) -> SeparableSum:
        """The long-range part of one structure in a box that holds all places, Å [places, 3]."""
        return self._sum_of(structure, [frame_of(structure.cells[0], structure.pbc[0])], separation, places)

    def _sum_of(
        self, structures: ChargedStructures, frames: list[Frame], separation: Separation, places: Tensor
    ) -> SeparableSum:
        frame = frames[0]
        counts = separation.harmonics(frame) if frame.periodic else ()
        bases: list[Basis] = [PeriodicBasis(count) for count in counts]
        kernel: LongRangeKernel
        if frame.periodic == 3:
            kernel = self._periodic_kernel(frames, counts, separation)
        else:
            intervals = self._intervals(structures.pbc[0], frame, places)
            exponents, weights, axes = self._open_axes(separation, frame, intervals)
            bases += [
                OpenBasis(axis.projection.to(frame.inverse), place.centre, place.length / 2)
                for axis, place in zip(axes, intervals, strict=True)
            ]
            kernel = MixedKernel(frame, counts, exponents, weights, axes)
        first, second, third = bases
        return SeparableSum(structures, frames, (first, second, third), kernel, separation.alpha)

    def _periodic_kernel(self, frames: list[Frame], counts: tuple[int, ...], separation: Separation) -> PeriodicKernel:
        first, second, third = counts
        if any(frame.inverse.requires_grad for frame in frames):
            return PeriodicKernel(frames, (first, second, third), separation.alpha)
        cells = torch.stack([frame.inverse for frame in frames])
        key = (separation, cells.device, cells.cpu().numpy().tobytes())
        if key not in self._kernels:
            _keep(self._kernels, key, PeriodicKernel(frames, (first, second, third), separation.alpha))
        kernel = self._kernels[key]
        assert isinstance(kernel, PeriodicKernel)
        return kernel

    def _intervals(self, pbc: Periodicity, frame: Frame, places: Tensor) -> list[Interval]:
        coordinates = frame.coordinates(places.detach()).detach()[:, frame.periodic :]
        limits = torch.stack([coordinates.amin(0), coordinates.amax(0)], dim=1).tolist()
        key = (pbc, len(coordinates))
        kept = self._boxes.get(key)
        if kept is None or not all(box.suits(*limit) for box, limit in zip(kept, limits, strict=True)):
            kept = [interval(*limit) for limit in limits]
            _keep(self._boxes, key, kept)
        return kept

    def _open_axes(
        self, separation: Separation, frame: Frame, intervals: list[Interval]
    ) -> tuple[Tensor, Tensor, list[OpenAxis]]:
        lengths = tuple(place.length for place in intervals)
        smallest = [rounded_down(float(length)) for length in frame.reciprocal.detach().norm(dim=1)]
        key = (separation, tuple(smallest), rounded_down(float(frame.measure.detach())), lengths)
        if key not in self._axes:
            self._check_memory(separation, lengths)
            exponents, weights = gaussian_nodes(separation, frame, intervals)
            axes = open_axes(separation, frame, intervals, exponents, weights)
            _keep(self._axes, key, (exponents, weights, axes))
        return self._axes[key]

    def _check_memory(self, separation: Separation, lengths: tuple[float, ...]) -> None:
        counts = [separation.polynomials(length) for length in lengths]
        nodes = 30  # or so; before compression there is a matrix for each, and as much again for singular vectors
        needed = 8 * 3 * nodes * max(counts) ** 2
        if needed > self._memory:
            box = " × ".join(f"{length:.0f}" for length in lengths)
            raise StructureError(
                f"The basis of an open box of {box} Å would take {needed / 2**30:.3g} GiB, and "
                f"{self._memory / 2**30:.3g} GiB are allowed: raise the memory, the cutoff or the tolerance."
            )


def _keep(store: OrderedDict[Hashable, _Value], key: Hashable, value: _Value) -> None:
    store[key] = value
    while len(store) > _MOST_KEPT:
        store.popitem(last=False)
