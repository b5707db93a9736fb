"""The long-range part in separable form: moments of charges, kernel, potential.

With products b_a(x) b_b(y) b_c(z) as the basis of space, M_abc = Σ_i q_i b_a(x_i) b_b(y_i) b_c(z_i) are the moments of
the charges, and K the kernel in that basis, E = ½⟨M, K M⟩ + corrections. Since K is constant, forces are the exact
derivatives of this energy, however coarse the basis.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from mlip.electrostatics.bases import Basis
from mlip.electrostatics.constants import COULOMB_CONSTANT
from mlip.electrostatics.frame import Frame
from mlip.electrostatics.inputs import ChargedStructures
from mlip.electrostatics.long_range_kernels import LongRangeKernel, apply_kernel, quadratic_energy
from mlip.electrostatics.plan import Plan
from mlip_kernels.separable_moments import separable_evaluation, separable_moments

Bases = tuple[Basis, Basis, Basis]


@dataclass(frozen=True)
class SeparableSum:
    """The long-range part of structures that share bases.

    Attributes:
        structures: The structures.
        frames: Their coordinates.
        bases: Functions of each coordinate.
        kernel: In these functions.
        alpha: Range separation, 1/Å.
    """

    structures: ChargedStructures
    frames: list[Frame]
    bases: Bases
    kernel: LongRangeKernel
    alpha: float

    def described(self, plan: Plan) -> Plan:
        """A plan with the bases that are used, in the order of the cell's directions."""
        order = sorted(range(3), key=lambda axis: not plan.pbc[axis])  # periodic directions come first in a frame
        first, second, third = (self.bases[order.index(axis)] for axis in range(3))
        return replace(
            plan,
            degrees=(first.degree, second.degree, third.degree),
            ranks=(first.rank, second.rank, third.rank),
            nodes=self.kernel.nodes,
        )

    def energies(self) -> Tensor:
        """Long-range energies with self energy and background, eV [structures, channels]."""
        structures = self.structures
        energies = quadratic_energy(self.kernel, self._moments(structures.charges))
        energies = energies - self.alpha / math.sqrt(math.pi) * structures.sum(structures.charges.square())
        background = self._background()
        if background is not None:
            energies = energies - background / 2 * structures.sum(structures.charges).square()
        return COULOMB_CONSTANT * energies

    def potentials_of(self, charges: Tensor) -> Tensor:
        """Long-range potentials of charges at the structures' places, less their own, V [N, channels]."""
        structures = self.structures
        coefficients = apply_kernel(self.kernel, self._moments(charges))
        values = separable_evaluation(coefficients, *self._own_factors, structures.starts)
        values = values - 2 * self.alpha / math.sqrt(math.pi) * charges
        background = self._background()
        if background is not None:
            values = values - (background * structures.sum(charges)).index_select(0, structures.batch)
        return COULOMB_CONSTANT * values

    def coefficients(self) -> Tensor:
        """Of the long-range potential in the bases, e/Å [structures, channels, rank, rank, rank]."""
        return apply_kernel(self.kernel, self._moments(self.structures.charges))

    def values(self, coefficients: Tensor, points: Tensor) -> Tensor:
        """Long-range potential of the one structure at points in Å [points, 3], e/Å [points, channels]."""
        starts = torch.tensor([0, len(points)], device=points.device)
        values = separable_evaluation(coefficients, *self._factors(points), starts)
        background = self._background()
        return values if background is None else values - background * self.structures.charges.sum(0)

    def _factors(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if len(self.frames) == 1:
            coordinates = self.frames[0].coordinates(positions)
        else:
            inverses = torch.stack([frame.inverse for frame in self.frames])
            coordinates = (positions.double()[:, None] @ inverses[self.structures.batch])[:, 0]
        x, y, z = (
            basis.values(column).to(positions) for basis, column in zip(self.bases, coordinates.unbind(1), strict=True)
        )
        return x, y, z

    @cached_property
    def _own_factors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self._factors(self.structures.positions)

    def _moments(self, charges: Tensor) -> Tensor:
        return separable_moments(charges, *self._own_factors, self.structures.starts)

    def _background(self) -> Tensor | None:
        """Potential of the uniform charge that makes periodic cells neutral, per charge, 1/Å [structures, 1]."""
        if self.frames[0].periodic < 3:
            return None
        volumes = torch.stack([frame.measure for frame in self.frames]).to(self.structures.charges)
        return (math.pi / (self.alpha**2 * volumes))[:, None]
