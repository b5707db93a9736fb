"""What a solver keeps from call to call, pair lists and boxes, never makes a result wrong."""

import pytest
import torch
from systems import SKEWED, random_charges

from mlip.electrostatics import CoulombSolver
from mlip.electrostatics.boxes import interval
from mlip.electrostatics.inputs import read_inputs
from mlip.electrostatics.pairs import KeptPairs, pair_list


@pytest.mark.parametrize("pbc", [[False] * 3, [False, False, True], [True, True, False], [True] * 3])
def test_a_moving_system_keeps_its_accuracy(pbc: list[bool]) -> None:
    positions, charges = random_charges(50, 61, SKEWED)
    generator = torch.Generator().manual_seed(0)
    solver = CoulombSolver(1e-5, 5.0, method="chebyshev_tucker")
    for step in range(12):
        # Small steps keep the list, the larger one each fourth time makes it anew; all drift out of the first box.
        size = 0.5 if step % 4 == 3 else 0.03
        noise = torch.randn(positions.shape, dtype=torch.float64, generator=generator)
        positions = positions + size * (0.2 * noise + torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64))
        kept = solver(positions, charges, SKEWED, pbc).energy
        fresh = CoulombSolver(1e-9, 5.0)(positions, charges, SKEWED, pbc).energy
        assert float(kept) == pytest.approx(float(fresh), rel=1e-5)


def test_one_solver_serves_different_systems_in_turn() -> None:
    solver = CoulombSolver(1e-6)
    systems = [random_charges(30, seed, SKEWED) for seed in (62, 63)]
    cells = [SKEWED, 1.2 * SKEWED]
    for _ in range(2):
        for (positions, charges), cell in zip(systems, cells, strict=True):
            for pbc in ([True] * 3, [True, True, False], [False] * 3):
                alone = CoulombSolver(1e-6)(positions, charges, cell, pbc).energy
                torch.testing.assert_close(solver(positions, charges, cell, pbc).energy, alone, rtol=1e-6, atol=0)


def test_pair_lists_serve_until_a_charge_has_moved_by_half_the_skin() -> None:
    positions, charges = random_charges(30, 64, SKEWED)
    kept = KeptPairs()
    first = kept.pairs(read_inputs(positions, charges, SKEWED, True, None, None), 4.0)
    for shift, same in ((0.1, True), (-0.1, True), (0.2, False)):
        moved = positions.clone()
        moved[7, 1] += shift
        again = kept.pairs(read_inputs(moved, charges, SKEWED, True, None, None), 4.0)
        assert (again is first) == same


@pytest.mark.parametrize("method", ["ewald", "chebyshev_tucker"])
def test_energy_does_not_depend_on_the_list_that_serves(method: str) -> None:
    positions, charges = random_charges(60, 66, SKEWED)
    step = 0.08 * torch.nn.functional.normalize(torch.ones_like(positions), dim=1)
    used, fresh = (CoulombSolver(1e-2, 4.0, method=method) for _ in range(2))  # type: ignore[arg-type]
    used(positions + step * charges.sign()[:, None], charges, SKEWED)
    energies = [float(solver(positions, charges, SKEWED).energy) for solver in (used, fresh)]
    assert energies[0] == pytest.approx(energies[1], rel=1e-13)


def test_pair_lists_serve_in_strained_cells() -> None:
    positions, charges = random_charges(30, 64, SKEWED)
    kept = KeptPairs()
    first = kept.pairs(read_inputs(positions, charges, SKEWED, True, None, None), 4.0)
    for strain, same in ((0.02, True), (-0.02, True), (-0.08, False)):
        strained = read_inputs((1 + strain) * positions, charges, (1 + strain) * SKEWED, True, None, None)
        again = kept.pairs(strained, 4.0)
        assert (again.senders is first.senders) == same
        vectors = strained.positions[again.senders] + again.offsets
        receivers = torch.repeat_interleave(torch.arange(30), again.starts.diff())
        near = (vectors - strained.positions[receivers]).norm(dim=1) < 4.0
        expected = pair_list(strained, 4.0)
        assert int(near.sum()) == len(expected.senders)


@pytest.mark.parametrize("pbc", [[False, False, True], [True, True, False], [True] * 3])
def test_a_cell_that_changes_keeps_its_accuracy(pbc: list[bool]) -> None:
    positions, charges = random_charges(50, 65, SKEWED)
    solver = CoulombSolver(1e-5, 5.0)
    for step in range(8):
        deformation = torch.eye(3, dtype=torch.float64) + 0.004 * step * torch.tensor(
            [[1.0, 0.3, 0.0], [-0.2, 0.5, 0.1], [0.0, 0.4, -1.0]], dtype=torch.float64
        )
        system = (positions @ deformation, charges, SKEWED @ deformation, pbc)
        fresh = CoulombSolver(1e-9, 5.0)(*system).energy
        assert float(solver(*system).energy) == pytest.approx(float(fresh), rel=1e-5)


def test_boxes_have_room_and_are_kept() -> None:
    box = interval(-3.0, 17.0)
    assert box.length < 23
    assert box.suits(-3.4, 17.4)
    assert box.suits(-2.0, 16.0)
    assert not box.suits(-2.0, 19.0)
    assert not box.suits(0.0, 10.0)
    # Lengths come from a coarse scale, so that bases serve again.
    assert len({interval(0.0, 20.0 + 0.01 * step).length for step in range(100)}) <= 3


def test_the_choice_does_not_follow_a_size_that_changes_little() -> None:
    solver = CoulombSolver(1e-4, cutoff=None)
    first = solver.plan(22 * torch.eye(3), True, 1000)
    for size in (18.0, 27.0):
        again = solver.plan(size * torch.eye(3), True, 1000)
        assert again.cutoff == first.cutoff
        assert again.degrees != first.degrees
        # A solver that has not seen the other size does better.
        assert CoulombSolver(1e-4, cutoff=None).plan(size * torch.eye(3), True, 1000).cutoff != first.cutoff
    assert solver.plan(50 * torch.eye(3), True, 1000).cutoff != first.cutoff
