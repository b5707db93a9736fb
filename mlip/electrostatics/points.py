"""Potential and field at any points, of charges that are given once."""

from collections.abc import Callable

import torch
from torch import Tensor

from mlip.electrostatics.constants import COULOMB_CONSTANT
from mlip.electrostatics.frame import Frame
from mlip_kernels.coulomb_pairs import Screening
from mlip_kernels.coulomb_pairs.reference import radial_functions

# Distances of so many pairs of points and charges are held at a time.
_PAIRS_AT_A_TIME = 1 << 22


class ShortRangeField:
    """The short-range part: charges and images that are near to a point; without screening, all charges."""

    def __init__(self, positions: Tensor, charges: Tensor, frame: Frame, screening: Screening | None = None) -> None:
        """Positions [N, 3] in Å, charges [N, channels] in e; directions are periodic only with screening."""
        self.frame = frame
        self.positions, self.charges = positions, charges
        self._screening: tuple[float, ...] = screening or ()
        if frame.periodic and screening is not None:
            self.positions, self.charges = self._with_images(screening.reach)

    def potential(self, points: Tensor) -> Tensor:
        """V [points, channels]; infinite at a charge."""

        def part(some: Tensor) -> Tensor:
            squares, _ = self._squares(some)
            values, _, _ = radial_functions(squares, self._screening)
            return values @ self.charges

        return COULOMB_CONSTANT * self._in_parts(points, part)

    def field(self, points: Tensor) -> Tensor:
        """V/Å [points, 3, channels], minus the gradient of the potential."""
        moments = (self.positions[:, :, None] * self.charges[:, None]).flatten(1)

        def part(some: Tensor) -> Tensor:
            squares, wrapped = self._squares(some)
            _, slopes, _ = radial_functions(squares, self._screening)
            own = wrapped[:, :, None] * (slopes @ self.charges)[:, None]
            return (slopes @ moments).unflatten(1, (3, -1)) - own

        return COULOMB_CONSTANT * self._in_parts(points, part)

    def _squares(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Squares of distances to all charges and images kept, and the points wrapped into the cell."""
        wrapped = points
        if self.frame.periodic:
            wrapped, _ = _wrapped(points, self.frame)
        distances = torch.cdist(wrapped, self.positions, compute_mode="donot_use_mm_for_euclid_dist")
        return distances.square(), wrapped

    def _in_parts(self, points: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        size = max(1, _PAIRS_AT_A_TIME // max(1, len(self.positions)))
        return torch.cat([function(some) for some in points.split(size)])

    def _with_images(self, cutoff: float) -> tuple[Tensor, Tensor]:
        """Charges wrapped into the cell, and their images nearer to the cell than the cutoff."""
        frame = self.frame
        positions, coordinates = _wrapped(self.positions, frame)
        heights = 1 / frame.inverse[:, : frame.periodic].norm(dim=0)
        reach = cutoff / heights
        limits = torch.ceil(reach).to(torch.int64).tolist()
        shifts = torch.cartesian_prod(*(torch.arange(-limit, limit + 1) for limit in limits)).reshape(-1, len(limits))
        vectors = torch.linalg.inv(frame.inverse)[: frame.periodic]
        places, amounts = [], []
        for shift in shifts.to(frame.inverse):
            moved = coordinates[:, : frame.periodic] + shift
            near = ((moved >= -reach) & (moved <= 1 + reach)).all(1)
            places.append(positions[near] + (shift @ vectors).to(positions))
            amounts.append(self.charges[near])
        return torch.cat(places), torch.cat(amounts)


def _wrapped(positions: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Positions moved into the cell along periodic directions, and their coordinates there."""
    coordinates = frame.coordinates(positions)
    whole = torch.zeros_like(coordinates)
    whole[:, : frame.periodic] = torch.floor(coordinates[:, : frame.periodic])
    moved = positions - (whole @ torch.linalg.inv(frame.inverse)).to(positions)
    return moved, coordinates - whole
