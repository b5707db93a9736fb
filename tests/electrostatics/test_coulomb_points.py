"""Potentials and fields at any points."""

import pytest
import torch
from systems import SKEWED, random_charges

from mlip.electrostatics import CoulombSolver
from mlip.errors import StructureError

PERIODICITIES = [[False] * 3, [False, True, False], [True, False, True], [True] * 3]


@pytest.mark.parametrize("pbc", PERIODICITIES)
@pytest.mark.parametrize("method", ["auto", "chebyshev_tucker"])
def test_points_see_what_a_charge_there_would_see(pbc: list[bool], method: str) -> None:
    positions, charges = random_charges(40, 41, SKEWED)
    solver = CoulombSolver(1e-7, method=method)  # type: ignore[arg-type]
    solver(positions, charges, SKEWED, pbc)
    generator = torch.Generator().manual_seed(0)
    # Some of the points are far outside of the cell.
    points = (3 * torch.rand(30, 3, dtype=torch.float64, generator=generator) - 1) @ SKEWED
    everything = torch.cat([positions, points]).requires_grad_()
    with_points = torch.cat([charges, torch.zeros(30, dtype=torch.float64)])
    potential = CoulombSolver(1e-11)(everything, with_points, SKEWED, pbc).potential[40:]
    (slope,) = torch.autograd.grad(potential.sum(), everything)
    found = solver.potential(points)
    assert (found - potential).abs().max() < 1e-6 * potential.abs().max()
    # Each point sees the others, which have no charge.
    assert (solver.field(points) + slope[40:]).abs().max() < 1e-6 * slope[40:].abs().max()


def test_points_of_one_structure_of_a_batch_with_channels() -> None:
    positions, charges = random_charges(20, 42, SKEWED)
    both = torch.cat([positions, 1.1 * positions])
    channels = torch.stack([charges, 2 * charges], dim=1).repeat(2, 1)
    cells = torch.stack([SKEWED, 1.1 * SKEWED])
    batch = torch.arange(2).repeat_interleave(20)
    solver = CoulombSolver(1e-7)
    solver(both, channels, cells, [True] * 3, batch)
    points = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], dtype=torch.float64)
    potential, field = solver.potential(points, structure=1), solver.field(points, structure=1)
    assert potential.shape == (2, 2)
    assert field.shape == (2, 3, 2)
    alone = CoulombSolver(1e-7)
    alone(1.1 * positions, charges, 1.1 * SKEWED, [True] * 3)
    torch.testing.assert_close(potential[:, 0], alone.potential(points))
    torch.testing.assert_close(field[:, :, 1], 2 * alone.field(points))


def test_later_changes_of_the_arguments_do_not_matter() -> None:
    positions, charges = random_charges(20, 43)
    solver = CoulombSolver()
    solver(positions, charges)
    points = torch.zeros(1, 3, dtype=torch.float64)
    expected = CoulombSolver()
    expected(positions.clone(), charges.clone())
    positions += 1.0
    charges *= 2.0
    assert torch.equal(solver.potential(points), expected.potential(points))


def test_points_need_a_call() -> None:
    points = torch.zeros(1, 3, dtype=torch.float64)
    solver = CoulombSolver()
    with pytest.raises(StructureError, match="call the solver before"):
        solver.potential(points)
    solver(*random_charges(4, 44))
    with pytest.raises(StructureError, match="no structure 3"):
        solver.field(points, structure=3)
    with pytest.raises(StructureError, match="shape"):
        solver.potential(points[0])
