"""The energies of structures that are computed alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from mlip.electrostatics.direct import direct_sums
from mlip.electrostatics.inputs import ChargedStructures
from mlip.electrostatics.plan import Plan


class LongRangeSum(Protocol):
    """The long-range part of some structures."""

    def energies(self) -> Tensor:
        """eV [structures, channels]."""
        ...

    def potentials(self) -> Tensor:
        """V [N, channels]."""
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
        near: Energies, eV [structures, channels], and potentials, V [N, channels], of the short-range part.
        far: Sums of the long-range part, each with the numbers of its structures.
    """

    structures: ChargedStructures
    near: tuple[Tensor, Tensor]
    far: Sequence[tuple[list[int], LongRangeSum]]

    def energies(self) -> tuple[Tensor, Tensor]:
        """Short range and long range, eV [structures, channels]."""
        short, _ = self.near
        if len(self.far) == 1:
            return short, self.far[0][1].energies()
        numbers = [number for part, _ in self.far for number in part]
        return short, in_order(torch.cat([part.energies() for _, part in self.far]), torch.tensor(numbers))

    def potentials(self) -> Tensor:
        """V [N, channels]."""
        if len(self.far) == 1:
            return self.near[1] + self.far[0][1].potentials()
        atoms = torch.cat([self.structures.atoms(part) for part, _ in self.far])
        return self.near[1] + in_order(torch.cat([part.potentials() for _, part in self.far]), atoms)

    def described(self, plan: Plan, number: int) -> Plan:
        """The plan of a structure with the bases that are used."""
        return next(part for numbers, part in self.far if number in numbers).described(plan)


def in_order(rows: Tensor, places: Tensor) -> Tensor:
    """Rows put to their places."""
    return rows.index_select(0, torch.argsort(places).to(rows.device))
