"""Emits sums over the pairs of a receiver: of a list, whose senders are gathered, or of all atoms of a structure.

Each lane of a vector is a pair. What is wanted of the pairs stays in registers until the receiver's last one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from llvmlite import ir

from mlip_kernels.coulomb_pairs.cpu_radial import Radial
from mlip_kernels.coulomb_pairs.cpu_vectors import select
from mlip_kernels.simd.code import Code, Reals, Vector
from mlip_kernels.simd.reduction import LaneSums

Kind = Literal["potential", "gradients", "second"]


@dataclass(frozen=True)
class PairLayout:
    """What an atom has, and what it gets.

    Numbers of an atom are its position, the channels of its charges, of `received`, of the changes of charges, and the
    change of its position; those of the result the gradient of the position, and of `received` and charges.

    Attributes:
        kind: Which of the functions of `reference`.
        channels: Of the charges.
        screened: Whether by erfc.
    """

    kind: Kind
    channels: int
    screened: bool

    @property
    def width(self) -> int:
        """Numbers of an atom."""
        return {
            "potential": 3 + self.channels,
            "gradients": 3 + 2 * self.channels,
            "second": 6 + 3 * self.channels,
        }[self.kind]

    @property
    def vectors(self) -> int:
        """Numbers of the gradient of a position, which is the first that an atom gets."""
        return 0 if self.kind == "potential" else 3

    @property
    def results(self) -> int:
        """Numbers that an atom gets."""
        return self.vectors + self.channels * (2 if self.kind == "second" else 1)

    @property
    def derivatives(self) -> int:
        """Radial functions that are needed."""
        return {"potential": 1, "gradients": 2, "second": 3}[self.kind]

    @property
    def fields(self) -> int:
        """Numbers of a pair that are kept between passes."""
        return self.width + self.derivatives


class Atom:
    """The numbers of an atom, or in each lane of another, as vectors."""

    def __init__(self, layout: PairLayout, numbers: Sequence[Vector]) -> None:
        channels = layout.channels
        self.position = numbers[:3]
        self.charges = numbers[3 : 3 + channels]
        self.received = numbers[3 + channels : 3 + 2 * channels]
        self.charge_changes = numbers[3 + 2 * channels : 3 + 3 * channels]
        self.position_change = numbers[3 + 3 * channels :]


class PairSums:
    """Sums over the pairs of one receiver."""

    def __init__(self, code: Code, layout: PairLayout, receiver: Atom) -> None:
        self.code = code
        self.layout = layout
        self.receiver = receiver
        self._sums = [code.variable(code.broadcast(0.0)) for _ in range(layout.results)]

    def add(
        self, sender: Atom, vector: Sequence[Vector], moved: Sequence[Vector], radial: Radial, mask: ir.Value | None
    ) -> list[Vector]:
        """Take in a vector of pairs, of which only those in the mask count; returns the gradient of their offsets.

        Args:
            sender: Its charges and what comes with these.
            vector: From receivers to senders.
            moved: Its change, if the kind needs it.
            radial: The functions at its length.
            mask: None if all count.
        """
        if self.layout.kind == "potential":
            self._add_products(0, radial.u, sender.charges, mask)
            return []
        code = self.code
        forward = dot(code, self.receiver.received, sender.charges)
        both = forward + dot(code, self.receiver.charges, sender.received)
        if self.layout.kind == "second":
            return self._add_second(sender, vector, moved, forward, both, radial, mask)
        self._add_products(3, radial.u, sender.received, mask)
        self._add_products(0, both * radial.minus_f, vector, mask)
        along = -(forward * radial.minus_f)
        return [along * each for each in vector]

    def _add_second(
        self,
        sender: Atom,
        vector: Sequence[Vector],
        moved: Sequence[Vector],
        forward: Vector,
        both: Vector,
        radial: Radial,
        mask: ir.Value | None,
    ) -> list[Vector]:
        code, receiver, channels = self.code, self.receiver, self.layout.channels
        along = dot(code, vector, moved)
        stretched = -(radial.minus_f * along)
        self._add_products(3, radial.u, sender.charge_changes, mask)
        self._add_products(3, stretched, sender.charges, mask)
        self._add_products(3 + channels, stretched, sender.received, mask)
        forward_change = dot(code, receiver.received, sender.charge_changes)
        both_change = forward_change + dot(code, receiver.charge_changes, sender.received)
        # What multiplies the vector and its change, first for the receiver and then for the offset.
        bend = radial.h * along
        of_vector = code.fused(both_change, radial.minus_f, -(both * bend))
        self._add_products(0, of_vector, vector, mask)
        self._add_products(0, both * radial.minus_f, moved, mask)
        of_vector = code.fused(forward, bend, -(forward_change * radial.minus_f))
        of_change = -(forward * radial.minus_f)
        return [code.fused(of_vector, v, of_change * w) for v, w in zip(vector, moved, strict=True)]

    def store(self, results: Reals) -> None:
        """Write the receiver's numbers, whole vectors of them."""
        lanes = self.code.lanes
        for first in range(0, len(self._sums), lanes):
            reduction = LaneSums()
            for number, total in enumerate(self._sums[first : first + lanes]):
                reduction.add(number, total.get())
            results.store(first, reduction.result())

    def _add_products(self, place: int, factor: Vector, others: Sequence[Vector], mask: ir.Value | None) -> None:
        kept = _masked(factor, mask)
        for total, other in zip(self._sums[place:], others, strict=False):
            # What does not count may be no number.
            total.add_product(kept, _masked(other, mask))


def dot(code: Code, first: Sequence[Vector], second: Sequence[Vector]) -> Vector:
    """Sum of the products."""
    total = first[0] * second[0]
    for one, other in list(zip(first, second, strict=True))[1:]:
        total = code.fused(one, other, total)
    return total


def difference(first: Sequence[Vector], second: Sequence[Vector], extra: Sequence[Vector] = ()) -> list[Vector]:
    """What the first has more than the second, plus what is extra."""
    parts = [one - other for one, other in zip(first, second, strict=True)]
    return [part + more for part, more in zip(parts, extra, strict=True)] if extra else parts


def _masked(factor: Vector, mask: ir.Value | None) -> Vector:
    return factor if mask is None else select(mask, factor, 0.0)
