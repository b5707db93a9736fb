"""The reciprocal sum of Ewald over all wave vectors in a sphere: structure factors by matrix products.

P. P. Ewald, Ann. Phys. 369, 253 (1921). Its work grows with charges times wave vectors, and it needs no basis: it
is for small periodic cells, and to check others.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from mlip.electrostatics.constants import COULOMB_CONSTANT
from mlip.electrostatics.frame import Frame
from mlip.electrostatics.inputs import ChargedStructures
from mlip.electrostatics.plan import Plan
from mlip.electrostatics.separation import Separation

# A sphere leaves out wave vectors in all directions at once, of which a box keeps those in its corners.
_MARGIN = 1.12


@dataclass(frozen=True)
class EwaldSum:
    """The long-range part of one structure that is periodic in all directions.

    Attributes:
        structures: That structure.
        frame: Its coordinates.
        separation: Range separation.
    """

    structures: ChargedStructures
    frame: Frame
    separation: Separation

    def described(self, plan: Plan) -> Plan:
        """A plan with the wave vectors that are used."""
        first, second, third = _highest_numbers(self.frame, self.separation)
        return replace(plan, degrees=(first, second, third))

    def energies(self) -> Tensor:
        """Long-range energy with self energy and background, eV [1, channels]."""
        charges, alpha = self.structures.charges, self.separation.alpha
        cosines, sines, weights = self._waves
        factors = (cosines @ charges).square() + (sines @ charges).square()
        energies = weights @ factors / 2 - alpha / math.sqrt(math.pi) * charges.square().sum(0)
        energies = energies - self._background() / 2 * charges.sum(0).square()
        return COULOMB_CONSTANT * energies[None]

    def potentials_of(self, charges: Tensor) -> Tensor:
        """Long-range potentials of charges at the structure's places, less their own, V [N, channels]."""
        alpha = self.separation.alpha
        cosines, sines, weights = self._waves
        column = weights[:, None]
        values = cosines.T @ (column * (cosines @ charges)) + sines.T @ (column * (sines @ charges))
        values = values - 2 * alpha / math.sqrt(math.pi) * charges - self._background() * charges.sum(0)
        return COULOMB_CONSTANT * values

    @cached_property
    def _waves(self) -> tuple[Tensor, Tensor, Tensor]:
        """cos k·r and sin k·r [waves, N] for one of each ±k, and the kernel with both, [waves]."""
        positions = self.structures.positions
        vectors = wave_numbers(self.frame, self.separation).to(self.frame.inverse) @ self.frame.reciprocal
        squares = vectors.square().sum(1)
        weights = (8 * math.pi / self.frame.measure) * torch.exp(squares / (-4 * self.separation.alpha**2)) / squares
        phases = vectors @ positions.double().T
        return phases.cos().to(positions), phases.sin().to(positions), weights.to(positions)

    def _background(self) -> Tensor:
        return (math.pi / (self.separation.alpha**2 * self.frame.measure)).to(self.structures.charges)


def wave_numbers(frame: Frame, separation: Separation) -> Tensor:
    """Integers (m₁, m₂, m₃) of the wave vectors in the sphere, one of each ±m and not 0, float64 [waves, 3]."""
    first, second, third = _highest_numbers(frame, separation)
    numbers = torch.cartesian_prod(
        torch.arange(0, first + 1), torch.arange(-second, second + 1), torch.arange(-third, third + 1)
    ).double()
    m1, m2, m3 = numbers.unbind(1)
    half = (m1 > 0) | ((m1 == 0) & ((m2 > 0) | ((m2 == 0) & (m3 > 0))))
    lengths = (numbers @ frame.reciprocal.detach().cpu()).norm(dim=1)
    return numbers[half & (lengths <= _MARGIN * separation.highest_wave_number)]


def _highest_numbers(frame: Frame, separation: Separation) -> list[int]:
    """The highest integers of wave vectors in the sphere, or about, along each cell vector."""
    highest = _MARGIN * separation.highest_wave_number / (2 * math.pi)
    return [math.ceil(highest * length) for length in frame.lengths]
