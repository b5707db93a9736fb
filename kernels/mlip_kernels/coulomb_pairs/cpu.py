"""Pair sums on the CPU, as compiled programs.

Tasks share out the receivers. A receiver's sums have one order, so that results do not depend on the tasks. A list's
senders are gathered from rows of what each atom has; where all atoms of a structure are senders, they are read from
columns, for a few receivers at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlip_kernels.coulomb_pairs.cpu_code import Kind, PairLayout
from mlip_kernels.coulomb_pairs.cpu_list import emit_list
from mlip_kernels.coulomb_pairs.cpu_radial import screening_factors
from mlip_kernels.coulomb_pairs.cpu_tiles import emit_structures
from mlip_kernels.simd.code import RealType
from mlip_kernels.simd.program import Program
from mlip_kernels.simd.target import host_target

_REALS: dict[torch.dtype, RealType] = {torch.float32: "float32", torch.float64: "float64"}
# Channels of one program at most: sums of all stay in registers.
_CHANNELS = 4
# Tasks of each thread, since structures and neighbourhoods are not alike; and pairs below which one task does all.
_TASKS, _FEW_PAIRS = 8, 2048
# Pairs whose numbers are in the first-level cache together.
_RUN = 256


def potential(
    positions: Tensor,
    offsets: Tensor | None,
    charges: Tensor,
    senders: Tensor | None,
    starts: Tensor,
    screening: Sequence[float],
) -> Tensor:
    """The function of `reference.potential`."""
    pairs = _Pairs(senders, starts, screening)
    return _sums("potential", pairs, positions, [charges], None, [offsets], False)[2][0]


def gradients(
    received: Tensor,
    positions: Tensor,
    offsets: Tensor | None,
    charges: Tensor,
    senders: Tensor | None,
    starts: Tensor,
    screening: Sequence[float],
    of_offsets_too: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The function of `reference.gradients`."""
    pairs = _Pairs(senders, starts, screening)
    found = _sums("gradients", pairs, positions, [charges, received], None, [offsets], of_offsets_too)
    return found[0], found[1], found[2][0]


def second(
    received: Tensor,
    positions: Tensor,
    offsets: Tensor | None,
    charges: Tensor,
    position_changes: Tensor,
    offset_changes: Tensor | None,
    charge_changes: Tensor,
    senders: Tensor | None,
    starts: Tensor,
    screening: Sequence[float],
    of_offsets_too: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The function of `reference.second`."""
    if offsets is not None and offset_changes is None:
        offset_changes = torch.zeros_like(offsets)
    of_positions, of_offsets, (of_received, of_charges) = _sums(
        "second",
        _Pairs(senders, starts, screening),
        positions,
        [charges, received, charge_changes],
        position_changes,
        [offsets, offset_changes],
        of_offsets_too,
    )
    return of_received, of_positions, of_offsets, of_charges


@dataclass(frozen=True)
class _Pairs:
    """Which pairs, and the screening of their charges; without senders these are all pairs of a structure, bare."""

    senders: Tensor | None
    starts: Tensor
    screening: Sequence[float]

    def number(self, atoms: int) -> int:
        """Of the pairs; about, if structures are unequal."""
        return atoms**2 // max(1, len(self.starts) - 1) if self.senders is None else len(self.senders)


def _sums(
    kind: Kind,
    pairs: _Pairs,
    positions: Tensor,
    by_channel: Sequence[Tensor],
    position_changes: Tensor | None,
    offsets: Sequence[Tensor | None],
    of_offsets_too: bool,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Sums for some channels at a time: gradients of positions and offsets, and what there is of every channel."""
    tail = [] if position_changes is None else [position_changes]
    edges = len(pairs.senders) if of_offsets_too and pairs.senders is not None else 0
    of_positions, of_offsets = [], []
    of_channels: list[list[Tensor]] = []
    for first in range(0, by_channel[0].shape[1], _CHANNELS):
        some = [each[:, first : first + _CHANNELS] for each in by_channel]
        layout = PairLayout(kind, some[0].shape[1], pairs.senders is not None)
        of_offsets.append(positions.new_empty(edges, 3))
        results = _run(layout, pairs, [positions, *some, *tail], offsets, of_offsets[-1] if of_offsets_too else None)
        of_positions.append(results[:, : layout.vectors])
        of_channels.append(
            [
                results[:, start : start + layout.channels]
                for start in range(layout.vectors, layout.results, layout.channels)
            ]
        )
    joined = [torch.cat(parts, 1) for parts in zip(*of_channels, strict=True)]
    return _added(of_positions), _added(of_offsets), joined


def _added(parts: Sequence[Tensor]) -> Tensor:
    return parts[0].contiguous() if len(parts) == 1 else torch.stack(list(parts)).sum(0)


def _run(
    layout: PairLayout,
    pairs: _Pairs,
    atoms: Sequence[Tensor],
    offsets: Sequence[Tensor | None],
    of_offsets: Tensor | None,
) -> Tensor:
    """The numbers that every atom gets, [atoms, whole vectors of them]."""
    count, like = len(atoms[0]), atoms[0]
    real = _REALS[like.dtype]
    lanes = host_target().lanes(real)
    results = like.new_empty(count, -(-layout.results // lanes) * lanes)
    program = _program(real, layout, of_offsets is not None)
    tasks = 1 if pairs.number(count) < _FEW_PAIRS else _TASKS * torch.get_num_threads()
    starts = pairs.starts.contiguous()
    if pairs.senders is None:
        # Reads go beyond the last atom, by less than a vector.
        columns = torch.nn.functional.pad(torch.cat(list(atoms), 1).T, (0, lanes)).contiguous()
        program([len(starts) - 1, starts, columns, count + lanes, results], max(1, min(tasks, count)))
        return results
    # Rows are read by fours.
    rows = torch.cat([*atoms, like.new_zeros(count, -layout.width % 4)], 1)
    runs, longest = _runs(starts.numpy(), len(pairs.senders))
    capacity = longest + lanes
    tasks = min(tasks, len(runs) - 1)
    scratch = like.new_zeros(tasks * capacity * layout.fields)
    screening = np.array(screening_factors(*pairs.screening), dtype=real)
    given, changes = (*(0 if each is None else each.contiguous() for each in offsets), 0)[:2]
    written = 0 if of_offsets is None else of_offsets
    senders = pairs.senders.contiguous()
    lists: list[int | Tensor] = [
        runs.ctypes.data,
        senders,
        screening.ctypes.data,
        given,
        changes,
        written,
        scratch,
        capacity,
    ]
    program([len(runs) - 1, starts, rows, rows.shape[1], results, *lists], tasks)
    return results


def _runs(starts: NDArray[np.int64], pairs: int) -> tuple[NDArray[np.int64], int]:
    """First receivers of runs of about `_RUN` pairs, and the number of receivers; and the pairs of the longest run."""
    runs = np.searchsorted(starts[:-1], np.arange(max(1, -(-pairs // _RUN)) + 1) * _RUN)
    runs[-1] = len(starts) - 1
    return runs, int(np.diff(starts[runs]).max())


@cache
def _program(real: RealType, layout: PairLayout, of_offsets_too: bool) -> Program:
    emit = partial(emit_list, layout, of_offsets_too) if layout.screened else partial(emit_structures, layout)
    where = "a list" if layout.screened else "all pairs"
    title = f"Coulomb sums over {where}: {layout.kind}, {layout.channels} channels."
    return Program(title, f"coulomb_pairs {layout} {of_offsets_too}", real, [emit])
