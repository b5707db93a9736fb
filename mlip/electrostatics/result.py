"""What the solver gives back."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from mlip.electrostatics.plan import Plan


@dataclass(frozen=True)
class CoulombResult:
    """Energies of structures, differentiable twice in positions, charges and cell.

    With charges [N, channels], each channel is a system of its own at the same places, and every shape below ends with
    the channels.

    Attributes:
        short_range: Sums over pairs nearer than the cutoff, eV [structures]; zero where there is no range separation.
        long_range: All the rest: reciprocal or separable part, self energy, background, excluded pairs.
        plans: How each structure was computed, and why.
    """

    short_range: Tensor
    long_range: Tensor
    plans: tuple[Plan, ...]
    evaluate_potential: Callable[[], Tensor]

    @property
    def energy(self) -> Tensor:
        """Energies, eV [structures]: short range and long range."""
        return self.short_range + self.long_range

    @cached_property
    def potential(self) -> Tensor:
        """Potential at each charge of all others and of all images, V [N], the derivative of the energy to the charge.

        Computed when first asked for. In slabs and wires, whose potential has no natural zero, it is known up to a
        constant.
        """
        return self.evaluate_potential()
