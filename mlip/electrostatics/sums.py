"""The energies of structures that are computed alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from mlip.electrostatics.direct import direct_potentials, direct_sums
from mlip.electrostatics.inputs import ChargedStructures
from mlip.electrostatics.pairs import ShortRangeSum
from mlip.electrostatics.plan import Plan


class LongRangeSum(Protocol):
    """The long-range part of some structures."""

    def energies(self) -> Tensor:
        """eV [structures, channels]."""
        ...

    def potentials_of(self, charges: Tensor) -> Tensor:
        """V [N, channels], of charges at the places of the structures' own."""
        ...

    def described(self, plan: Plan) -> Plan:
        """A plan with what is used, for one of the structures."""
        ...


class CoulombSum(Protocol):
    """Energies and potentials of structures."""

    def energies(self) -> tuple[Tensor, Tensor]:
        """Short range and long range, eV [structures, channels]."""
        ...

    def potentials(self) -> Tensor:
        """V [N, channels]."""
        ...

    def potentials_of(self, charges: Tensor) -> Tensor:
        """The same of other charges at the same places."""
        ...

    def described(self, plan: Plan, number: int) -> Plan:
        """A plan with what is used, for one of the structures."""
        ...


@dataclass(frozen=True)
class DirectSum:
    """Open structures by the sum over all pairs."""

    structures: ChargedStructures

    def energies(self) -> tuple[Tensor, Tensor]:
        """Nothing as short range, and all as long range, eV [structures, channels]."""
        energies, _ = self._sums
        return torch.zeros_like(energies), energies

    def potentials(self) -> Tensor:
        """V [N, channels]."""
        return self._sums[1]

    def potentials_of(self, charges: Tensor) -> Tensor:
        """The same of other charges at the same places."""
        return direct_potentials(self.structures, charges)

    def described(self, plan: Plan, number: int) -> Plan:
        """The plan."""
        return plan

    @cached_property
    def _sums(self) -> tuple[Tensor, Tensor]:
        return direct_sums(self.structures)


@dataclass(frozen=True)
class SeparatedSum:
    """Structures by range separation.

    Attributes:
        structures: The structures.
        near: The short-range part.
        far: Sums of the long-range part, each with the numbers of its structures.
    """

    structures: ChargedStructures
    near: ShortRangeSum
    far: Sequence[tuple[list[int], LongRangeSum]]

    def energies(self) -> tuple[Tensor, Tensor]:
        """Short range and long range, eV [structures, channels]."""
        short, _ = self.near.sums
        if len(self.far) == 1:
            return short, self.far[0][1].energies()
        numbers = [number for part, _ in self.far for number in part]
        return short, in_order(torch.cat([part.energies() for _, part in self.far]), torch.tensor(numbers))

    def potentials(self) -> Tensor:
        """V [N, channels]."""
        return self.near.sums[1] + self._far_potentials(self.structures.charges)

    def potentials_of(self, charges: Tensor) -> Tensor:
        """The same of other charges at the same places."""
        return self.near.potentials_of(charges) + self._far_potentials(charges)

    def _far_potentials(self, charges: Tensor) -> Tensor:
        if len(self.far) == 1:
            return self.far[0][1].potentials_of(charges)
        atoms = [self.structures.atoms(numbers) for numbers, _ in self.far]
        parts = [part.potentials_of(charges[own]) for (_, part), own in zip(self.far, atoms, strict=True)]
        return in_order(torch.cat(parts), torch.cat(atoms))

    def described(self, plan: Plan, number: int) -> Plan:
        """The plan of a structure with the bases that are used."""
        return next(part for numbers, part in self.far if number in numbers).described(plan)


def in_order(rows: Tensor, places: Tensor) -> Tensor:
    """Rows put to their places."""
    return rows.index_select(0, torch.argsort(places).to(rows.device))
