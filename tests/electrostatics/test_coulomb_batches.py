"""Batches, channels, excluded pairs, single precision, and the choice of method."""

import pytest
import torch
from ase.build import bulk
from systems import SKEWED, random_charges
from torch import Tensor

from mlip.electrostatics import CoulombSolver
from mlip.electrostatics.constants import COULOMB_CONSTANT

METHODS = ["auto", "chebyshev_tucker"]
LARGER = SKEWED * 1.1
# Positions, charges, cell and periodicity of unequal structures.
STRUCTURES = [
    (*random_charges(20, 21, SKEWED), SKEWED, [True, True, True]),
    (*random_charges(7, 22), torch.zeros(3, 3, dtype=torch.float64), [False, False, False]),
    (*random_charges(15, 23, LARGER), LARGER, [True, True, True]),
    (*random_charges(12, 24, SKEWED), SKEWED, [True, False, True]),
    (*random_charges(9, 25, SKEWED), SKEWED, [False, False, True]),
    (*random_charges(20, 26, SKEWED), SKEWED, [True, True, True]),
    (*random_charges(1, 27, total=1.0), torch.zeros(3, 3, dtype=torch.float64), [False, False, False]),
]


def batch_of_all() -> dict[str, Tensor]:
    positions, charges, cells, pbc = zip(*STRUCTURES, strict=True)
    numbers = torch.arange(len(STRUCTURES)).repeat_interleave(torch.tensor([len(each) for each in charges]))
    return {
        "positions": torch.cat(positions),
        "charges": torch.cat(charges),
        "cell": torch.stack(cells),
        "pbc": torch.tensor(pbc),
        "batch": numbers,
    }


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_its_structures_one_by_one(method: str) -> None:
    solver = CoulombSolver(1e-8, 5.0, method)  # type: ignore[arg-type]
    batch = batch_of_all()
    batch["positions"].requires_grad_()
    result = solver(**batch)
    (gradient,) = torch.autograd.grad(result.energy.sum(), batch["positions"])
    first = 0
    for number, (positions, charges, cell, pbc) in enumerate(STRUCTURES):
        places = positions.clone().requires_grad_()
        alone = CoulombSolver(1e-8, 5.0, method)(places, charges, cell, pbc)  # type: ignore[arg-type]
        (expected,) = torch.autograd.grad(alone.energy.sum(), places)
        part = slice(first, first + len(charges))
        first += len(charges)
        torch.testing.assert_close(result.energy[number], alone.energy[0], rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(result.short_range[number], alone.short_range[0], rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(result.potential[part], alone.potential, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(gradient[part], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_the_operator_gives_the_potentials_of_any_charges(method: str) -> None:
    solver = CoulombSolver(1e-8, 5.0, method)  # type: ignore[arg-type]
    given = batch_of_all()
    charges = given.pop("charges")
    potentials = solver.operator(**given)
    for factor in (1.0, -2.0):
        expected = solver(charges=factor * charges, **given).potential
        torch.testing.assert_close(potentials(factor * charges), expected, rtol=1e-12, atol=1e-12)


def test_the_operator_of_ewald() -> None:
    positions, charges, cell, _ = STRUCTURES[0]
    solver = CoulombSolver(1e-6, 5.0, "ewald")
    found = solver.operator(positions, cell)(charges)
    torch.testing.assert_close(found, solver(positions, charges, cell).potential, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_channels_are_systems_of_their_own(method: str) -> None:
    solver = CoulombSolver(1e-6, 5.0, method)  # type: ignore[arg-type]
    batch = batch_of_all()
    charges = batch.pop("charges")
    both = solver(charges=torch.stack([charges, -2 * charges], dim=1), **batch)
    one = solver(charges=charges, **batch)
    assert both.energy.shape == (len(STRUCTURES), 2)
    torch.testing.assert_close(both.energy, torch.stack([one.energy, 4 * one.energy], dim=1))
    torch.testing.assert_close(both.potential, torch.stack([one.potential, -2 * one.potential], dim=1))


def test_structures_without_charges_have_no_energy() -> None:
    positions, charges = random_charges(5, 28)
    cells = torch.stack([SKEWED, SKEWED, SKEWED])
    result = CoulombSolver()(positions, charges, cells, [True] * 3, batch=torch.ones(5, dtype=torch.int64))
    assert result.energy.tolist()[::2] == [0.0, 0.0]
    assert result.energy[1] != 0


@pytest.mark.parametrize("pbc", [[False] * 3, [True, True, False], [True] * 3])
def test_nothing_at_all(pbc: list[bool]) -> None:
    nothing = torch.zeros(0, 3, dtype=torch.float64)
    result = CoulombSolver()(nothing, nothing[:, 0], SKEWED, pbc)
    assert result.energy.tolist() == [0.0]
    assert result.potential.shape == (0,)


def test_cells_and_periodicity_of_ase() -> None:
    atoms = bulk("NaCl", "rocksalt", 5.64)
    positions, charges = torch.tensor(atoms.positions), torch.tensor([1.0, -1.0], dtype=torch.float64)
    energy = CoulombSolver(1e-9)(positions, charges, atoms.cell, atoms.pbc).energy
    assert float(energy) == pytest.approx(-1.74756459463318219 * COULOMB_CONSTANT / 2.82, rel=1e-8)
    assert CoulombSolver().plan(atoms.cell, atoms.pbc, 2).charges == 2


@pytest.mark.parametrize("pbc", [[False] * 3, [True, False, True], [True] * 3])
def test_excluded_pairs_do_not_see_each_other(pbc: list[bool]) -> None:
    positions, charges = random_charges(12, 29, SKEWED)
    # A neighbour across the border of the cell, and one by an odd number of cells away.
    positions[1] = positions[0] + torch.tensor([1.0, 0.2, 0.1], dtype=torch.float64)
    moved = positions.clone()
    if any(pbc):
        moved[1] += 3 * SKEWED[0] - SKEWED[2]
    solver = CoulombSolver(1e-9)
    every = solver(moved, charges, SKEWED, pbc)
    pairs = torch.tensor([[1, 0], [0, 1], [4, 7]])
    some = solver(moved, charges, SKEWED, pbc, excluded_pairs=pairs)
    shifts = torch.cartesian_prod(*(torch.arange(-1.0, 2.0, dtype=torch.float64) * periodic for periodic in pbc))
    images = (positions[4] - positions[7] + shifts @ SKEWED).norm(dim=1).min()
    near = charges[0] * charges[1] / (positions[0] - positions[1]).norm()
    removed = COULOMB_CONSTANT * (near + charges[4] * charges[7] / images)
    torch.testing.assert_close(every.energy[0] - some.energy[0], removed, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close((some.potential * charges).sum() / 2, some.energy[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["direct", "ewald", "chebyshev_tucker"])
@pytest.mark.parametrize("pbc", [[False] * 3, [False, False, True], [True, False, True], [True] * 3])
def test_single_precision(pbc: list[bool], method: str) -> None:
    if (method == "direct" and any(pbc)) or (method == "ewald" and not all(pbc)):
        pytest.skip("not a method for this")
    positions, charges = random_charges(60, 30, 2 * SKEWED)
    positions = positions.float()
    charges = charges.float()
    forces = []
    for dtype in (torch.float32, torch.float64):
        places = positions.to(dtype).requires_grad_()
        result = CoulombSolver(1e-6, method=method)(places, charges.to(dtype), 2 * SKEWED.to(dtype), pbc)  # type: ignore[arg-type]
        assert result.energy.dtype == result.potential.dtype == dtype
        forces.append(torch.autograd.grad(result.energy.sum(), places)[0].double())
    assert (forces[0] - forces[1]).abs().max() < 1e-5 * forces[1].abs().max()


def test_results_are_the_same_bits_again() -> None:
    batch = batch_of_all()
    first, second = (CoulombSolver(1e-6)(**batch) for _ in range(2))
    assert torch.equal(first.energy, second.energy)
    assert torch.equal(first.potential, second.potential)


def test_automatic_choice_says_what_it_chose() -> None:
    solver = CoulombSolver(1e-4, cutoff=None)
    batch = batch_of_all()
    methods = [plan.method for plan in solver(**batch).plans]
    assert methods[1] == methods[6] == "direct"
    assert "direct" not in (methods[0], *methods[2:6])
    assert all("predicted times: " in plan.reason for plan in solver(**batch).plans)
    coarse = CoulombSolver(1e-2, cutoff=None)
    small, large = (coarse.plan(None, None, count) for count in (100, 100_000))
    assert (small.method, large.method) == ("direct", "chebyshev_tucker")
    assert CoulombSolver(method="chebyshev_tucker").plan(None, None, 100).reason == "asked for"


@pytest.mark.parametrize("pbc", [[False] * 3, [False, False, True], [True, True, False], [True] * 3])
def test_plan_predicts_the_bases(pbc: list[bool]) -> None:
    box = torch.diag(torch.tensor([20.0, 24.0, 28.0], dtype=torch.float64))
    solver = CoulombSolver(1e-5, 6.0, method="chebyshev_tucker")
    plan = solver.plan(box, pbc, 1300)
    positions, charges = random_charges(1300, 31, box)
    called = solver(positions, charges, box, pbc).plans[0]
    assert called.alpha == plan.alpha
    assert called.cutoff == plan.cutoff == 6.0
    for predicted, found in zip(plan.ranks, called.ranks, strict=True):
        assert predicted == pytest.approx(found, rel=0.25)
    assert 0 < plan.memory_bytes < 1e9
    assert plan.flops > 1e6
    assert plan.nodes == 0 if all(pbc) else 10 < plan.nodes < 60
