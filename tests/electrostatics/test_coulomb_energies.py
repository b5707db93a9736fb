"""Energies and forces against sums and numbers that share nothing with the solver."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from systems import SKEWED, open_energy, random_charges, slab_energy, wire_energy
from torch import Tensor

from mlip.electrostatics import CoulombSolver
from mlip.electrostatics.constants import COULOMB_CONSTANT

# Madelung constant of rock salt, referred to the distance of neighbours.
MADELUNG = 1.74756459463318219
# Made by scripts/make_torch_pme_references.py.
TORCH_PME = Path(__file__).parent / "references" / "torch_pme.safetensors"


def energy_and_forces(
    solver: CoulombSolver, positions: Tensor, charges: Tensor, **system: object
) -> tuple[float, Tensor]:
    places = positions.clone().requires_grad_()
    energy = solver(places, charges, **system).energy  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(energy.sum(), places)
    return float(energy.detach()), -gradient


def rms(tensor: Tensor) -> float:
    return float(tensor.square().mean().sqrt())


@pytest.mark.parametrize("method", ["chebyshev_tucker", "ewald"])
def test_madelung_constant_of_rock_salt(method: str) -> None:
    places = torch.cartesian_prod(*(torch.arange(2.0, dtype=torch.float64),) * 3)
    charges = 1 - 2 * (places.sum(1) % 2)
    solver = CoulombSolver(tolerance=1e-13, cutoff=3.0, method=method)  # type: ignore[arg-type]
    result = solver(places, charges, cell=2 * torch.eye(3, dtype=torch.float64), pbc=True)
    assert -float(result.energy) / COULOMB_CONSTANT / 4 == pytest.approx(MADELUNG, abs=1e-12)


@pytest.mark.parametrize("method", ["chebyshev_tucker", "ewald"])
@pytest.mark.parametrize("name", ["cubic", "orthorhombic", "skewed"])
def test_periodic_boxes_agree_with_torch_pme(name: str, method: str) -> None:
    reference = load_file(TORCH_PME)
    system = {"cell": reference[f"{name}.cell"], "pbc": True}
    solver = CoulombSolver(tolerance=1e-12, cutoff=5.0, method=method)  # type: ignore[arg-type]
    energy, forces = energy_and_forces(solver, reference[f"{name}.positions"], reference[f"{name}.charges"], **system)
    expected = COULOMB_CONSTANT * reference[f"{name}.forces"]
    assert energy == pytest.approx(COULOMB_CONSTANT * float(reference[f"{name}.energy"]), rel=1e-10)
    assert rms(forces - expected) < 1e-10 * rms(expected)


@pytest.mark.parametrize("total", [0.0, 1.0])
@pytest.mark.parametrize("method", ["chebyshev_tucker", "ewald"])
@pytest.mark.filterwarnings("ignore:The structure has a total charge")
def test_energy_of_a_skewed_cell_does_not_depend_on_the_range_separation(method: str, total: float) -> None:
    positions, charges = random_charges(30, 1, SKEWED, total)
    results = []
    for cutoff in (5.0, 6.5):
        solver = CoulombSolver(tolerance=1e-13, cutoff=cutoff, method=method)  # type: ignore[arg-type]
        results.append(energy_and_forces(solver, positions, charges, cell=SKEWED, pbc=True))
    (first, first_forces), (second, second_forces) = results
    assert first == pytest.approx(second, rel=1e-11)
    assert (first_forces - second_forces).abs().max() < 1e-11 * first_forces.abs().max()


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6, 1e-8, 1e-10])
def test_open_system_agrees_with_the_sum_over_pairs_within_the_tolerance(tolerance: float) -> None:
    positions, charges = random_charges(500, 2)
    exact, exact_forces = energy_and_forces(CoulombSolver(method="direct"), positions, charges)
    assert exact == pytest.approx(open_energy(positions, charges), rel=1e-12)
    solver = CoulombSolver(tolerance, method="chebyshev_tucker")
    energy, forces = energy_and_forces(solver, positions, charges)
    assert energy == pytest.approx(exact, rel=tolerance)
    assert rms(forces - exact_forces) < tolerance * rms(exact_forces)


def test_direct_forces_are_those_of_coulomb() -> None:
    positions, charges = random_charges(40, 3)
    _, forces = energy_and_forces(CoulombSolver(), positions, charges)
    vectors = positions[:, None] - positions
    cubes = vectors.norm(dim=2).pow(3)
    cubes.fill_diagonal_(torch.inf)
    expected = COULOMB_CONSTANT * (charges[:, None] * charges / cubes)[:, :, None] * vectors
    assert torch.allclose(forces, expected.sum(1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8, 1e-10])
def test_oblique_slab_agrees_with_ewald_in_two_dimensions(tolerance: float) -> None:
    cell = torch.tensor([[8.0, 0.0, 0.0], [2.5, 9.0, 0.0], [0.0, 0.0, 9.0]], dtype=torch.float64)
    positions, charges = random_charges(40, 4, cell)
    expected = slab_energy(positions, charges, cell, alpha=0.9)
    assert slab_energy(positions, charges, cell, alpha=0.8) == pytest.approx(expected, rel=1e-11)
    for cutoff in (4.0, 7.0):
        solver = CoulombSolver(tolerance, cutoff)
        result = solver(positions, charges, cell=cell, pbc=[True, True, False])
        assert float(result.energy) == pytest.approx(expected, rel=tolerance)


def test_slab_does_not_depend_on_which_cell_vector_is_the_open_one() -> None:
    cell = torch.tensor([[8.0, 0.0, 0.0], [2.5, 9.0, 0.0], [0.0, 0.0, 9.0]], dtype=torch.float64)
    positions, charges = random_charges(20, 5, cell)
    expected = CoulombSolver(1e-9)(positions, charges, cell=cell, pbc=[True, True, False]).energy
    # Coordinates x, y, z become y, z, x, and the open vector, which does not matter, is not a number.
    turned = torch.stack([cell[1].roll(-1), torch.full((3,), torch.nan, dtype=torch.float64), cell[0].roll(-1)])
    found = CoulombSolver(1e-9)(positions.roll(-1, dims=1), charges, cell=turned, pbc=[True, False, True]).energy
    assert float(found) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8, 1e-10])
def test_oblique_wire_agrees_with_sums_over_images(tolerance: float) -> None:
    vector = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    cell = torch.stack([torch.zeros(3, dtype=torch.float64), vector, torch.zeros(3, dtype=torch.float64)])
    positions, charges = random_charges(20, 6)
    expected = wire_energy(positions, charges, vector)
    for cutoff in (4.0, 7.0):
        result = CoulombSolver(tolerance, cutoff)(positions, charges, cell=cell, pbc=[False, True, False])
        assert float(result.energy) == pytest.approx(expected, rel=tolerance)


def test_potential_is_the_derivative_of_the_energy() -> None:
    for pbc in ([False] * 3, [False, True, False], [True, False, True], [True] * 3):
        positions, charges = random_charges(30, 7, SKEWED)
        charges.requires_grad_()
        result = CoulombSolver(1e-5, method="chebyshev_tucker")(positions, charges, cell=SKEWED, pbc=pbc)
        (derivative,) = torch.autograd.grad(result.energy.sum(), charges)
        assert torch.allclose(result.potential, derivative, rtol=0, atol=1e-12 * float(derivative.abs().max()))
        assert torch.equal(result.energy, result.short_range + result.long_range)


@pytest.mark.parametrize("pbc", [[False] * 3, [False, False, True], [True, True, False], [True] * 3])
def test_cutoffs_beyond_the_size_of_the_system(pbc: list[bool]) -> None:
    positions, charges = random_charges(6, 8, SKEWED / 2)
    results = [
        CoulombSolver(1e-11, cutoff, method="chebyshev_tucker")(positions, charges, SKEWED / 2, pbc).energy
        for cutoff in (2.0, 20.0)
    ]
    assert float(results[0]) == pytest.approx(float(results[1]), rel=1e-10)


@pytest.mark.parametrize("pbc", [[False] * 3, [False, False, True], [True, True, False], [True] * 3])
def test_long_boxes(pbc: list[bool]) -> None:
    box = torch.diag(torch.tensor([5.0, 6.0, 80.0], dtype=torch.float64))
    positions, charges = random_charges(60, 9, box)
    exact = CoulombSolver(1e-11, 8.0, method="chebyshev_tucker")(positions, charges, box, pbc).energy
    for cutoff in (4.0, 5.0, 8.0):
        found = CoulombSolver(1e-8, cutoff, method="chebyshev_tucker")(positions, charges, box, pbc).energy
        assert float(found) == pytest.approx(float(exact), rel=1e-8)
