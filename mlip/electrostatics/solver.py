"""The solver of electrostatics: energies, forces and potentials of point charges, open and periodic."""

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mlip.electrostatics.costs import SystemSize
from mlip.electrostatics.ewald import EwaldSum
from mlip.electrostatics.exclusions import excluded_potentials
from mlip.electrostatics.expansions import Expansions
from mlip.electrostatics.fields import PointField
from mlip.electrostatics.frame import frame_of
from mlip.electrostatics.inputs import (
    OPEN,
    ChargedStructures,
    check_distances,
    read_inputs,
    structure_name,
    text_of,
)
from mlip.electrostatics.pairs import KeptPairs, ShortRangeSum
from mlip.electrostatics.plan import Plan
from mlip.electrostatics.planning import Planner
from mlip.electrostatics.result import CoulombResult
from mlip.electrostatics.separation import separation
from mlip.electrostatics.sums import CoulombSum, DirectSum, SeparatedSum, in_order
from mlip.errors import ConfigError, StructureError

_METHODS = ("auto", "direct", "ewald", "chebyshev_tucker")
# Total charge that counts as none: relative to the sum of absolute charges, and whatever these are, e.
_NEUTRAL, _NOTHING = 1e-5, 1e-10
# Charges per Å³ of condensed matter, for a plan of an open system whose box is not given.
_USUAL_DENSITY = 0.1
_LEAST_EXTENT = 1.0  # Å
_GIB = 2**30


class CoulombSolver:
    """Coulomb energies of point charges, for any mix of open and periodic directions and cells of any shape.

    Small open systems are summed over all pairs. Others are separated into a short-range part, summed over pairs nearer
    than a cutoff, and a long-range part in separable form, or by Ewald's sum over wave vectors.

    Derivatives of energies, to positions, charges and cell, are those of what is computed, whatever the tolerance.
    """

    def __init__(
        self,
        tolerance: float = 1e-6,
        cutoff: float | None = 6.0,
        method: Literal["auto", "direct", "ewald", "chebyshev_tucker"] = "auto",
        memory: float = 4 * _GIB,
    ) -> None:
        """
        Args:
            tolerance: Relative error of forces (root mean square) and energies, between 1e-14 and 0.1.
            cutoff: Of the short-range part, Å; None to have the cheapest chosen for each structure.
            method: `direct` for open structures, `ewald` for those periodic in all directions, `chebyshev_tucker` for
                any, `auto` for the one that is predicted to be the quickest.
            memory: Bytes that the work on a structure may take.

        Raises:
            ConfigError: an argument is out of range.
        """
        if not 1e-14 < tolerance < 1e-1:
            raise ConfigError(f"The tolerance is {tolerance}: take one between 1e-14 and 0.1.")
        if cutoff is not None and not (math.isfinite(cutoff) and cutoff > 0):
            raise ConfigError(f"The cutoff is {cutoff}: give a length in Å, or None to have it chosen.")
        if method not in _METHODS:
            raise ConfigError(f"There is no method '{method}': take one of {', '.join(_METHODS)}.")
        if not memory > 0:
            raise ConfigError(f"The memory is {memory} bytes: give a positive number.")
        self.tolerance = tolerance
        self.cutoff = cutoff
        self.method = method
        self._planner = Planner(tolerance, cutoff, method, memory)
        self._expansions = Expansions(memory)
        self._pairs = KeptPairs()
        self._last: ChargedStructures | None = None
        self._fields: dict[int, PointField] = {}
        self._warned = False

    def __call__(
        self,
        positions: Tensor,
        charges: Tensor,
        cell: Any = None,
        pbc: Any = None,
        batch: Tensor | None = None,
        excluded_pairs: Tensor | None = None,
    ) -> CoulombResult:
        """Energies of structures and, on request, potentials at their charges.

        Results are in the dtype of the positions. Charged periodic structures get the usual uniform background.

        Args:
            positions: Å [N, 3].
            charges: e [N], or [N, channels] for several systems of charges at the same places.
            cell: Cell vectors in rows, Å [3, 3] or [structures, 3, 3]; rows of open directions do not matter.
            pbc: Which directions are periodic, [3] or [structures, 3]; by default all if there is a cell, else none.
            batch: Structure of each charge, int64 [N], ascending; None if there is one.
            excluded_pairs: Pairs of charges, int64 [pairs, 2], that do not see each other: q_i q_j/r_ij of the nearest
                images is left out.

        Raises:
            StructureError: arrays that do not fit together, numbers that are not finite, a cell that is singular along
                periodic directions, coinciding charges, a charged slab or wire, a method that does not suit, or a box
                that takes more memory than allowed.
        """
        structures = read_inputs(positions, charges, cell, pbc, batch, excluded_pairs)
        self._check_charges(structures)
        plans, sums, groups = self._sums_of(structures)
        short, long = _joined(sums, groups)
        long = long - structures.sum(structures.charges * excluded_potentials(structures)) / 2
        self._last, self._fields = structures.detached(), {}
        used = {
            number: each.described(plans[number], place)
            for numbers, each in zip(groups, sums, strict=True)
            for place, number in enumerate(numbers)
        }
        return CoulombResult(
            short_range=structures.shaped(short),
            long_range=structures.shaped(long),
            plans=tuple(used[number] for number in range(structures.count)),
            evaluate_potential=lambda: structures.shaped(_potentials(structures, sums, groups)),
        )

    def operator(
        self, positions: Tensor, cell: Any = None, pbc: Any = None, batch: Tensor | None = None
    ) -> Callable[[Tensor], Tensor]:
        """Potentials, V [N], as a function of the charges, e [N], at places that stay; without gradients.

        It is for iterations: what depends on the places alone is computed once. Arguments and errors are those of a
        call, but that charged structures may have infinite energy.
        """
        structures = read_inputs(positions.detach(), torch.zeros_like(positions[:, 0]), cell, pbc, batch, None)
        _, sums, groups = self._sums_of(structures)
        atoms = [structures.atoms(numbers) for numbers in groups]

        def potentials(charges: Tensor) -> Tensor:
            rows = charges.detach().to(structures.positions)[:, None]
            if len(sums) == 1:
                return sums[0].potentials_of(rows)[:, 0]
            parts = [each.potentials_of(rows[own]) for each, own in zip(sums, atoms, strict=True)]
            return in_order(torch.cat(parts), torch.cat(atoms))[:, 0]

        return potentials

    def plan(self, cell: Any, pbc: Any, n: int) -> Plan:
        """How a structure of n charges would be computed.

        Args:
            cell: Cell vectors in rows, Å [3, 3]; along open directions the box around the charges. None for an open
                system as dense as condensed matter.
            pbc: Which directions are periodic, [3]; None as in a call.
            n: Number of charges.

        Raises:
            StructureError: a singular cell, a method that does not suit, or a box that takes too much memory.
        """
        if n < 1:
            raise StructureError(f"There are {n} charges to plan for: give at least 1.")
        if cell is None:
            cell, pbc = torch.eye(3) * (n / _USUAL_DENSITY) ** (1 / 3), OPEN if pbc is None else pbc
        values = cell.detach().cpu() if isinstance(cell, Tensor) else np.asarray(cell, dtype=np.float64)
        box = torch.as_tensor(values, dtype=torch.float64)
        # A box has a length along open directions too, which must be checked like a periodic one.
        checked = read_inputs(box.new_zeros(1, 3), box.new_zeros(1), box, pbc, None, None)
        read_inputs(box.new_zeros(1, 3), box.new_zeros(1), box, True, None, None)
        first, second, third = box.norm(dim=1).tolist()
        volume = float(torch.linalg.det(box).abs())
        return self._planner.plan(SystemSize(checked.pbc[0], n, 1, (first, second, third), volume))

    def potential(self, points: Tensor, structure: int = 0) -> Tensor:
        """Potential of the charges of the last call, V [points] or [points, channels]; infinite at a charge.

        Excluded pairs do not matter here.

        Args:
            points: Å [points, 3], anywhere.
            structure: Which structure of the batch.

        Raises:
            StructureError: there was no call, or it had no such structure.
        """
        charges, field, places = self._field(points, structure)
        return charges.shaped(field.potential(places))

    def field(self, points: Tensor, structure: int = 0) -> Tensor:
        """Electric field of the charges of the last call, V/Å [points, 3] or [points, 3, channels].

        Arguments and errors are those of `potential`.
        """
        charges, field, places = self._field(points, structure)
        return charges.shaped(field.field(places))

    def _field(self, points: Tensor, number: int) -> tuple[ChargedStructures, PointField, Tensor]:
        if self._last is None:
            raise StructureError("There are no charges yet: call the solver before asking for potentials at points.")
        if not 0 <= number < self._last.count:
            raise StructureError(f"There is no structure {number}: the last call had {self._last.count}.")
        if points.ndim != 2 or points.shape[1] != 3 or not bool(torch.isfinite(points).all()):
            raise StructureError(f"Points have the shape {list(points.shape)}: give finite positions [points, 3].")
        if number not in self._fields:
            structure = self._last.subset([number])
            cutoff = self._planner.plan(next(_sizes_of(structure))).cutoff
            separated = None if cutoff is None else separation(self.tolerance, cutoff)
            self._fields[number] = PointField(structure, separated, self._expansions)
        return self._last, self._fields[number], points.detach().to(self._last.positions)

    def _sums_of(self, structures: ChargedStructures) -> tuple[tuple[Plan, ...], list[CoulombSum], list[list[int]]]:
        """Plans of all structures, the sums of those that are computed alike, and the numbers of these."""
        plans = tuple(self._planner.plan(size) for size in _sizes_of(structures))
        groups: dict[tuple[str, float | None], list[int]] = {}
        for number, plan in enumerate(plans):
            groups.setdefault((plan.method, plan.cutoff), []).append(number)
        sums = [self._sum_of(structures.subset(numbers), *how) for how, numbers in groups.items()]
        return plans, sums, list(groups.values())

    def _sum_of(self, structures: ChargedStructures, method: str, cutoff: float | None) -> CoulombSum:
        """The sum of structures that are computed alike."""
        if cutoff is None:
            check_distances(structures)
            return DirectSum(structures)
        separated = separation(self.tolerance, cutoff)
        screening = separated.screening
        near = ShortRangeSum(structures, self._pairs.pairs(structures, screening.reach), screening)
        if method == "ewald":
            alone = [structures.subset([number]) for number in range(structures.count)]
            ewalds = [EwaldSum(each, frame_of(each.cells[0], each.pbc[0]), separated) for each in alone]
            return SeparatedSum(structures, near, [([number], part) for number, part in enumerate(ewalds)])
        return SeparatedSum(structures, near, self._expansions.separable_sums(structures, separated))

    def _check_charges(self, structures: ChargedStructures) -> None:
        """Refuse charged slabs and wires, whose energy is infinite, and warn, once, of charged cells."""
        if not any(any(pbc) for pbc in structures.pbc):
            return
        charges = structures.charges.detach()
        totals = structures.sum(charges)
        charged = (totals.abs() > _NEUTRAL * structures.sum(charges.abs()) + _NOTHING).any(1).tolist()
        for number, pbc in enumerate(structures.pbc):
            if not charged[number] or not any(pbc):
                continue
            total = float(totals[number][totals[number].abs().argmax()])
            name = structure_name(number, structures.count)
            if not all(pbc):
                raise StructureError(
                    f"{name} has a total charge of {total:g} e and is periodic along {text_of(pbc)} alone, "
                    "where its energy is infinite: make it neutral, or periodic in all directions."
                )
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"{name} has a total charge of {total:g} e in a periodic cell: a uniform background "
                    "makes it neutral, and energies depend on the size of the cell.",
                    UserWarning,
                    stacklevel=3,
                )


def _sizes_of(structures: ChargedStructures) -> Iterator[SystemSize]:
    """Sizes of all structures; open directions are as long as what is in them."""
    positions = structures.positions.detach().double().cpu().numpy()
    cells = structures.cells.detach().double().cpu().numpy()
    channels = structures.charges.shape[1]
    for number, pbc in enumerate(structures.pbc):
        part = structures.structure(number)
        vectors = np.eye(3)
        if all(pbc):
            vectors = cells[number]
        elif any(pbc):
            # Unit vectors along open directions: coordinates along them are lengths.
            frame = frame_of(torch.from_numpy(cells[number]), pbc)
            order = sorted(range(3), key=lambda axis: not pbc[axis])
            vectors[order] = np.linalg.inv(frame.inverse.numpy())
        lengths, volume = np.linalg.norm(vectors, axis=1), abs(np.linalg.det(vectors))
        if not all(pbc) and part.stop > part.start:
            extents = np.maximum(np.ptp(positions[part] @ np.linalg.inv(vectors), axis=0), _LEAST_EXTENT)
            extents[list(pbc)] = 1.0
            lengths, volume = lengths * extents, volume * extents.prod()
        first, second, third = lengths.tolist()
        yield SystemSize(pbc, part.stop - part.start, channels, (first, second, third), float(volume))


def _joined(sums: list[CoulombSum], numbers: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Energies of all structures, in their order."""
    parts = [each.energies() for each in sums]
    if len(parts) == 1:
        return parts[0]
    places = torch.tensor([number for group in numbers for number in group])
    short, long = zip(*parts, strict=True)
    return in_order(torch.cat(short), places), in_order(torch.cat(long), places)


def _potentials(structures: ChargedStructures, sums: list[CoulombSum], numbers: list[list[int]]) -> Tensor:
    """Potentials at all charges, in their order, V [N, channels]."""
    values = sums[0].potentials()
    if len(sums) > 1:
        atoms = torch.cat([structures.atoms(group) for group in numbers])
        values = in_order(torch.cat([each.potentials() for each in sums]), atoms)
    return values - excluded_potentials(structures)
