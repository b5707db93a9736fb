"""Definition of the pair sums and of their derivatives in plain torch, a run of pairs at a time.

All are derivatives of one form, a sum over the pairs (j -> i) with vectors v = x_j + offset - x_i,

    L = sum of (g_i . q_j) u(|v|),    u(r) = erfc(alpha r) / r,

in which the potential is what multiplies g, and u has a second factor, of `Screening`, that ends the list. Of the
radial functions `u`, `f = u' / r` and `h = f' / r` are needed. With every pair its reverse is in the sum, so that what
a sender gets is gathered over the pairs that it receives.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Pairs at a time.
_RUN = 1 << 16


@dataclass(frozen=True)
class PairRun:
    """Some of the pairs.

    Attributes:
        receivers: Receiver i of each pair, int64 [pairs].
        senders: Sender j.
        edges: Their places in the list, or None if there is no list.
    """

    receivers: Tensor
    senders: Tensor
    edges: slice | None

    def differences(self, positions: Tensor, offsets: Tensor | None) -> Tensor:
        """What the sender has more than the receiver, plus the offset of the pair, [pairs, 3]."""
        vectors = positions[self.senders] - positions[self.receivers]
        return vectors if offsets is None or self.edges is None else vectors + offsets[self.edges]


def pair_runs(senders: Tensor | None, starts: Tensor) -> Iterator[PairRun]:
    """The pairs of a list, or without senders all pairs of different atoms of the same structure.

    Args:
        senders: Sender of each pair, ordered by receiver, int64 [pairs]; or None.
        starts: First pair of each receiver, or first atom of each structure, and the number of all, int64.
    """
    if senders is not None:
        for first in range(0, len(senders), _RUN):
            edges = slice(first, min(first + _RUN, len(senders)))
            numbers = torch.arange(edges.start, edges.stop, device=starts.device)
            yield PairRun(torch.searchsorted(starts, numbers, right=True) - 1, senders[edges], edges)
        return
    atoms = starts[1:] - starts[:-1]
    ends = torch.cumsum(atoms**2, 0)
    total = int(ends[-1]) if len(ends) else 0
    for first in range(0, total, _RUN):
        numbers = torch.arange(first, min(first + _RUN, total), device=starts.device)
        structure = torch.searchsorted(ends, numbers, right=True)
        count = atoms[structure]
        local = numbers - ends[structure] + count**2
        receivers, sent = local // count, local % count
        other = receivers != sent
        begin = starts[structure[other]]
        yield PairRun(begin + receivers[other], begin + sent[other], None)


def radial_functions(square: Tensor, screening: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    """u, f and h at distances whose squares are given; those of a `Screening`, or without one of bare charges."""
    distance = square.sqrt()
    if not screening:
        u = 1 / distance
        return u, -u / square, 3 * u / square**2
    alpha, cutoff, width = screening
    decline = (2 * alpha / math.sqrt(math.pi)) * torch.exp(-(alpha**2) * square)
    u = torch.erfc(alpha * distance) / distance
    f = -(u + decline) / square
    h = (2 * alpha**2 * decline - 3 * f) / square
    # The factor that ends the list, and the same derivatives of it.
    place = (distance - cutoff) / width
    end = torch.erfc(place) / 2
    end_f = -torch.exp(-(place**2)) / (math.sqrt(math.pi) * width * distance)
    end_h = -end_f * (2 * place / width + 1 / distance) / distance
    return u * end, f * end + u * end_f, h * end + 2 * f * end_f + u * end_h


def potential(
    positions: Tensor,
    offsets: Tensor | None,
    charges: Tensor,
    senders: Tensor | None,
    starts: Tensor,
    screening: Sequence[float],
) -> Tensor:
    """Potential of the charges, [atoms, channels]."""
    result = torch.zeros_like(charges)
    for run in pair_runs(senders, starts):
        u, _, _ = radial_functions(_squares(run.differences(positions, offsets)), screening)
        result.index_add_(0, run.receivers, u * charges[run.senders])
    return result


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
    """Gradients of L, with g = `received`, for positions, offsets ([0, 3] if not wanted) and charges."""
    of_positions, of_charges = torch.zeros_like(positions), torch.zeros_like(charges)
    of_offsets = positions.new_zeros(_pairs(senders) if of_offsets_too else 0, 3)
    for run in pair_runs(senders, starts):
        i, j = run.receivers, run.senders
        vectors = run.differences(positions, offsets)
        u, f, _ = radial_functions(_squares(vectors), screening)
        forward, back = _products(received, charges, run)
        of_charges.index_add_(0, i, u * received[j])
        of_positions.index_add_(0, i, -(forward + back) * f * vectors)
        if of_offsets_too:
            of_offsets[run.edges] = forward * f * vectors
    return of_positions, of_offsets, of_charges


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
    """Gradients of the change of L along changes of positions, offsets and charges.

    They are for g, positions, offsets ([0, 3] if not wanted) and charges; the change is that of `change`.
    """
    of_received, of_charges = torch.zeros_like(received), torch.zeros_like(charges)
    of_positions = torch.zeros_like(positions)
    of_offsets = positions.new_zeros(_pairs(senders) if of_offsets_too else 0, 3)
    for run in pair_runs(senders, starts):
        i, j = run.receivers, run.senders
        vectors = run.differences(positions, offsets)
        moved = run.differences(position_changes, offset_changes)
        u, f, h = radial_functions(_squares(vectors), screening)
        along = (vectors * moved).sum(1, keepdim=True)
        stretched = f * along
        forward, back = _products(received, charges, run)
        forward_change, back_change = _products(received, charge_changes, run)
        turned = f * moved + h * along * vectors
        of_received.index_add_(0, i, u * charge_changes[j] + stretched * charges[j])
        of_charges.index_add_(0, i, stretched * received[j])
        both = (forward_change + back_change) * f * vectors + (forward + back) * turned
        of_positions.index_add_(0, i, -both)
        if of_offsets_too:
            of_offsets[run.edges] = forward_change * f * vectors + forward * turned
    return of_received, of_positions, of_offsets, of_charges


def change(
    run: PairRun,
    screening: Sequence[float],
    received: Tensor,
    positions: Tensor,
    offsets: Tensor | None,
    charges: Tensor,
    position_changes: Tensor,
    offset_changes: Tensor | None,
    charge_changes: Tensor,
) -> Tensor:
    """Change of the part of L of some pairs: `(g_i . q'_j) u + (g_i . q_j) f v . v'`, summed."""
    vectors = run.differences(positions, offsets)
    moved = run.differences(position_changes, offset_changes)
    u, f, _ = radial_functions(_squares(vectors), screening)
    forward, _ = _products(received, charges, run)
    forward_change, _ = _products(received, charge_changes, run)
    return (forward_change * u + forward * f * (vectors * moved).sum(1, keepdim=True)).sum()


def _squares(vectors: Tensor) -> Tensor:
    """Of the lengths, [pairs, 1]."""
    return (vectors * vectors).sum(1, keepdim=True)


def _products(received: Tensor, charges: Tensor, run: PairRun) -> tuple[Tensor, Tensor]:
    """g_i . q_j and g_j . q_i for each pair, [pairs, 1]."""
    i, j = run.receivers, run.senders
    forward = (received[i] * charges[j]).sum(1, keepdim=True)
    return forward, (received[j] * charges[i]).sum(1, keepdim=True)


def _pairs(senders: Tensor | None) -> int:
    return 0 if senders is None else len(senders)
