"""Random charges for the benchmark of electrostatics, and what their energy and forces are."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mlip.electrostatics import CoulombSolver
from mlip.errors import StructureError

BOUNDARIES = ("open", "periodic")
DENSITY = 0.1  # charges per Å³, as in water
LEAST_DISTANCE = 1.0  # Å
_CHARGE = 0.4  # e, standard deviation
# The first that fits the memory is taken.
_REFERENCES = {"open": (("direct", 1e-12),), "periodic": (("ewald", 1e-12), ("chebyshev_tucker", 1e-11))}


class EnergyForces(NamedTuple):
    """Energy in eV, and forces in eV/Å [N, 3]."""

    energy: float
    forces: Tensor


@dataclass(frozen=True)
class ChargedBox:
    """Charges in a cube, in float64.

    Attributes:
        boundary: `open` or `periodic`.
        positions: Å [N, 3].
        charges: e [N]; their sum is zero.
        cell: Å [3, 3]; None for an open system.
    """

    boundary: str
    positions: Tensor
    charges: Tensor
    cell: Tensor | None

    @property
    def volume(self) -> float:
        """Å³."""
        return len(self.charges) / DENSITY


class Reference(NamedTuple):
    """What is taken for the truth, and the method that it is from."""

    found: EnergyForces
    method: str


def charged_box(boundary: str, count: int) -> ChargedBox:
    """So many charges, no two nearer than `LEAST_DISTANCE`: a lattice, shuffled, every place displaced at random."""
    generator = torch.Generator().manual_seed(count)
    side = round((count / DENSITY) ** (1 / 3), 12)
    steps = next(number for number in range(1, count + 1) if number**3 >= count)
    places = torch.cartesian_prod(*(torch.arange(steps, dtype=torch.float64),) * 3).reshape(-1, 3)
    places = places[torch.randperm(len(places), generator=generator)[:count]]
    step = side / steps
    shifts = (2 * torch.rand(count, 3, dtype=torch.float64, generator=generator) - 1) * (step - LEAST_DISTANCE) / 2
    charges = _CHARGE * torch.randn(count, dtype=torch.float64, generator=generator)
    cell = side * torch.eye(3, dtype=torch.float64) if boundary == "periodic" else None
    return ChargedBox(boundary, (places + 0.5) * step + shifts, charges - charges.mean(), cell)


def solve(solver: CoulombSolver, box: ChargedBox, positions: Tensor) -> EnergyForces:
    """Energy and forces by the solver, at these positions."""
    positions = positions.detach().requires_grad_()
    energy = solver(positions, box.charges, box.cell).energy.sum()
    (gradient,) = torch.autograd.grad(energy, positions)
    return EnergyForces(energy.item(), -gradient)


def reference(box: ChargedBox, memory: float) -> Reference:
    """Energy and forces, converged.

    Open systems are summed over all pairs. Periodic ones are summed over wave vectors at 1e-12 where that fits the
    memory, or else computed in separable form at 1e-11.

    Args:
        box: The charges.
        memory: Bytes.

    Raises:
        StructureError: nothing fits.
    """
    for method, tolerance in _REFERENCES[box.boundary]:
        solver = CoulombSolver(tolerance, cutoff=None, method=method, memory=memory)  # type: ignore[arg-type]
        try:
            return Reference(solve(solver, box, box.positions), f"{method} at {tolerance:.0e}")
        except StructureError as error:
            refused = error
    raise refused


def force_error(found: EnergyForces, truth: EnergyForces) -> float:
    """‖difference‖ / ‖truth‖."""
    return float((found.forces - truth.forces).norm() / truth.forces.norm())


def energy_error(found: EnergyForces, truth: EnergyForces) -> float:
    """In eV for each charge; energies of random charges can be near zero."""
    return abs(found.energy - truth.energy) / len(truth.forces)
