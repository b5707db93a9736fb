"""Coordinates along periodic and open directions."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mlip.electrostatics.inputs import Periodicity


@dataclass(frozen=True)
class Frame:
    """Coordinates of a structure, differentiable in its cell: fractional along periodic directions, Å along open ones.

    Directions are taken in an order of their own, periodic ones first. Open ones are orthonormal, and perpendicular to
    the periodic ones; without any they are x, y, z.

    Attributes:
        periodic: Number of periodic directions.
        inverse: Matrix from positions to coordinates, float64 [3, 3].
        measure: Volume, area or length of the periodic cell, float64 []; 1 without.
        lengths: Of the periodic cell vectors, Å.
    """

    periodic: int
    inverse: Tensor
    measure: Tensor
    lengths: tuple[float, ...]

    def coordinates(self, positions: Tensor) -> Tensor:
        """Of positions in Å [N, 3], float64 [N, 3]."""
        return positions.double() @ self.inverse

    @property
    def reciprocal(self) -> Tensor:
        """Reciprocal vectors of the periodic directions in rows, with the factor 2π, 1/Å [periodic, 3]."""
        return 2 * math.pi * self.inverse[:, : self.periodic].T


def frame_of(cell: Tensor, pbc: Periodicity) -> Frame:
    """The frame of a structure with a cell [3, 3] in Å."""
    if not any(pbc):
        identity = torch.eye(3, dtype=torch.float64, device=cell.device)
        return Frame(0, identity, identity[0, 0], ())
    vectors = cell.double()[[axis for axis in range(3) if pbc[axis]]]
    basis = torch.cat([vectors, _normals(vectors)])
    lengths = tuple(vectors.detach().norm(dim=1).tolist())
    return Frame(len(vectors), torch.linalg.inv(basis), torch.linalg.det(basis).abs(), lengths)


def _normals(vectors: Tensor) -> Tensor:
    """Orthonormal vectors perpendicular to 1, 2 or 3 given ones, in rows."""
    if len(vectors) == 3:
        return vectors[:0]
    if len(vectors) == 2:
        normal = torch.linalg.cross(vectors[0], vectors[1])
        return (normal / normal.norm())[None]
    along = vectors[0] / vectors[0].norm()
    # The axis that is farthest from the wire: any smooth choice will do.
    helper = torch.zeros_like(along)
    helper[int(along.detach().abs().argmin())] = 1.0
    first = torch.linalg.cross(along, helper)
    first = first / first.norm()
    return torch.stack([first, torch.linalg.cross(along, first)])
