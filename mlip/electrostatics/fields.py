"""The potential and the field of given charges at any points, short range and long range."""

import torch
from torch import Tensor

from mlip.electrostatics.bases import OpenBasis
from mlip.electrostatics.constants import COULOMB_CONSTANT
from mlip.electrostatics.expansions import Expansions
from mlip.electrostatics.frame import frame_of
from mlip.electrostatics.inputs import ChargedStructures
from mlip.electrostatics.points import ShortRangeField
from mlip.electrostatics.separable import SeparableSum
from mlip.electrostatics.separation import Separation


class PointField:
    """Potential and field of one structure, whose coefficients are computed once.

    Points outside of the box of the basis see an open system by the sum over all charges; for slabs and wires, the box
    is made to hold them.
    """

    def __init__(self, structure: ChargedStructures, separation: Separation | None, expansions: Expansions) -> None:
        """A structure without gradients, its range separation, None for the sum over all charges, and its bases."""
        self._structure = structure
        self._separation = separation
        self._expansions = expansions
        self._frame = frame_of(structure.cells[0], structure.pbc[0])
        positions, charges = structure.positions, structure.charges
        self._far: SeparableSum | None = None
        if separation is None:
            self._near = self._all_charges()
        else:
            self._near = ShortRangeField(positions, charges, self._frame, separation.screening)
            self._far = expansions.covering(structure, separation, positions)
            self._coefficients = self._far.coefficients()

    def potential(self, points: Tensor) -> Tensor:
        """V [points, channels]."""
        inside = self._inside(points)
        result = points.new_empty(len(points), self._structure.charges.shape[1])
        result[inside] = self._near.potential(points[inside])
        if self._far is not None:
            result[inside] += COULOMB_CONSTANT * self._far.values(self._coefficients, points[inside])
            if not bool(inside.all()):
                result[~inside] = self._all_charges().potential(points[~inside])
        return result

    def field(self, points: Tensor) -> Tensor:
        """V/Å [points, 3, channels]."""
        inside = self._inside(points)
        channels = self._structure.charges.shape[1]
        result = points.new_empty(len(points), 3, channels)
        result[inside] = self._near.field(points[inside])
        if self._far is not None:
            places = points[inside].detach().requires_grad_()
            with torch.enable_grad():
                values = COULOMB_CONSTANT * self._far.values(self._coefficients, places)
                for channel in range(channels):
                    (slope,) = torch.autograd.grad(values[:, channel].sum(), places, retain_graph=True)
                    result[inside, :, channel] -= slope
            if not bool(inside.all()):
                result[~inside] = self._all_charges().field(points[~inside])
        return result

    def _all_charges(self) -> ShortRangeField:
        return ShortRangeField(self._structure.positions, self._structure.charges, self._frame)

    def _inside(self, points: Tensor) -> Tensor:
        """Which points the basis serves."""
        inside = torch.ones(len(points), dtype=torch.bool, device=points.device)
        if self._far is None or self._frame.periodic == 3:
            return inside
        coordinates = self._frame.coordinates(points)
        for basis, column in zip(self._far.bases, coordinates.unbind(1), strict=True):
            if isinstance(basis, OpenBasis):
                inside &= (column - basis.centre).abs() <= basis.half
        if self._frame.periodic and not bool(inside.all()):
            assert self._separation is not None
            held = torch.cat([self._structure.positions, points])
            self._far = self._expansions.covering(self._structure, self._separation, held)
            self._coefficients = self._far.coefficients()
            inside.fill_(True)
        return inside
