"""Derivatives are those of what is computed, however coarse: conservation, stress, second derivatives."""

import math
from collections.abc import Callable

import pytest
import torch
from systems import SKEWED, random_charges
from torch import Tensor

from mlip.electrostatics import CoulombSolver

PERIODICITIES = [[False] * 3, [False, True, False], [True, False, True], [True] * 3]
COARSE = 1e-2


def energy_function(pbc: list[bool], tolerance: float = COARSE) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The energy of some charges as a function of their positions, and positions."""
    positions, charges = random_charges(30, 11, SKEWED)
    solver = CoulombSolver(tolerance, 4.0, method="chebyshev_tucker")
    return lambda places: solver(places, charges, cell=SKEWED, pbc=pbc).energy.sum(), positions


def forces_of(energy: Callable[[Tensor], Tensor], positions: Tensor) -> Tensor:
    places = positions.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(places), places)
    return -gradient


def slope(function: Callable[[float], Tensor], step: float) -> float:
    """The derivative at 0 of a smooth function, by differences of the fourth order."""
    values = [float(function(place * step)) for place in (-2, -1, 1, 2)]
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)


@pytest.mark.parametrize("pbc", PERIODICITIES)
def test_forces_are_differences_of_a_coarse_energy(pbc: list[bool]) -> None:
    energy, positions = energy_function(pbc)
    forces = forces_of(energy, positions)
    direction = torch.randn(positions.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = slope(lambda step: energy(positions + step * direction), 3e-4)
    assert found == pytest.approx(-float((forces * direction).sum()), abs=1e-9 * float(forces.abs().max()))


@pytest.mark.parametrize("pbc", PERIODICITIES)
def test_work_round_a_closed_loop_is_zero_for_a_coarse_energy(pbc: list[bool]) -> None:
    energy, positions = energy_function(pbc)
    # Of an analytic periodic integrand: the rule of rectangles is exact to rounding. Pairs come and go, and lists of
    # them are made anew.
    radius, steps = 0.4, 96
    work, largest = 0.0, 0.0
    for number in range(steps):
        angle = 2 * math.pi * number / steps
        cosine, sine = math.cos(angle), math.sin(angle)
        moved = positions.clone()
        moved[3] += radius * torch.tensor([cosine - 1, sine, 0.5 * math.sin(2 * angle)], dtype=torch.float64)
        velocity = radius * torch.tensor([-sine, cosine, math.cos(2 * angle)], dtype=torch.float64)
        power = float(forces_of(energy, moved)[3] @ velocity)
        work += power * 2 * math.pi / steps
        largest = max(largest, abs(power))
    assert abs(work) < 1e-14 * max(largest, 1.0)


@pytest.mark.parametrize("pbc", PERIODICITIES[1:])
def test_stress_is_the_difference_of_energies_of_strained_cells(pbc: list[bool]) -> None:
    positions, charges = random_charges(30, 12, SKEWED)
    solver = CoulombSolver(1e-3, 4.0, method="chebyshev_tucker")
    # A vector along an open direction takes no part, and its strain is that of positions.
    strain = 0.3 * torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    strain = strain + strain.T

    def energy(step: Tensor | float) -> Tensor:
        deformation = torch.eye(3, dtype=torch.float64) + step * strain
        return solver(positions @ deformation, charges, cell=SKEWED @ deformation, pbc=pbc).energy.sum()

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (derivative,) = torch.autograd.grad(energy(step), step)
    found = slope(lambda value: energy(value).detach(), 1e-4)
    assert found == pytest.approx(float(derivative), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("method", ["direct", "ewald", "chebyshev_tucker"])
@pytest.mark.parametrize("pbc", PERIODICITIES)
def test_second_derivatives(pbc: list[bool], method: str) -> None:
    if (method == "direct" and any(pbc)) or (method == "ewald" and not all(pbc)):
        pytest.skip("not a method for this")
    positions, charges = random_charges(5, 13, SKEWED)
    solver = CoulombSolver(0.05, 3.0, method=method)  # type: ignore[arg-type]

    def energy(places: Tensor, amounts: Tensor, cell: Tensor) -> Tensor:
        amounts = amounts - amounts.mean()
        return solver(places, amounts, cell=cell, pbc=pbc).energy

    inputs = tuple(each.clone().requires_grad_() for each in (positions, charges, SKEWED))
    if not any(pbc):
        inputs = (*inputs[:2], SKEWED)
    assert torch.autograd.gradcheck(energy, inputs, eps=1e-5, atol=1e-6)
    assert torch.autograd.gradgradcheck(energy, inputs, eps=1e-5, atol=1e-6)


@pytest.mark.parametrize("pbc", PERIODICITIES)
def test_derivatives_of_potentials(pbc: list[bool]) -> None:
    positions, charges = random_charges(4, 14, SKEWED)
    solver = CoulombSolver(0.05, 3.0, method="chebyshev_tucker")
    inputs = (positions.requires_grad_(), charges.requires_grad_())

    def potential(places: Tensor, amounts: Tensor) -> Tensor:
        amounts = amounts - amounts.mean()
        return solver(places, amounts, cell=SKEWED, pbc=pbc).potential

    assert torch.autograd.gradcheck(potential, inputs, eps=1e-5, atol=1e-6)
