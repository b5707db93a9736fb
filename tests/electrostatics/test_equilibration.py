"""Charge equilibration against dense solutions, and its derivatives against differences of those."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mlip.electrostatics.equilibration import (
    EquilibrationProblem,
    equilibrate,
    relaxation_charges,
    relaxation_energy,
)
from mlip.errors import StructureError

SIZES = [4, 1, 6]
STRUCTURES = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
TOTALS = torch.tensor([0.0, -2.0, 1.5], dtype=torch.float64)


def random_matrix(seed: int) -> Tensor:
    """Positive definite, one block a structure."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for size in SIZES:
        root = torch.randn(size, size, generator=generator, dtype=torch.float64)
        parts.append(root @ root.T + torch.diag(torch.rand(size, generator=generator, dtype=torch.float64) + 0.3))
    return torch.block_diag(*parts)


def random_potentials(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(100 + seed)
    return torch.randn(sum(SIZES), generator=generator, dtype=torch.float64)


def problem_of(matrix: Tensor) -> EquilibrationProblem:
    fixed = matrix.detach()
    return EquilibrationProblem(lambda charges: fixed @ charges, fixed.diagonal(), STRUCTURES, len(SIZES))


def dense_charges(matrix: np.ndarray, electronegativity: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Minimum under the constraints, by the linear system of charges and Lagrange multipliers."""
    count, structures = len(electronegativity), len(totals)
    members = np.zeros((structures, count))
    members[STRUCTURES.numpy(), np.arange(count)] = 1.0
    system = np.block([[matrix, members.T], [members, np.zeros((structures, structures))]])
    return np.linalg.solve(system, np.concatenate([-electronegativity, totals]))[:count]


@pytest.mark.parametrize("seed", range(3))
def test_charges_are_those_of_a_dense_solve(seed: int) -> None:
    matrix, electronegativity = random_matrix(seed), random_potentials(seed)
    charges = equilibrate(problem_of(matrix), electronegativity, TOTALS)
    expected = dense_charges(matrix.numpy(), electronegativity.numpy(), TOTALS.numpy())
    np.testing.assert_allclose(charges.numpy(), expected, rtol=0, atol=1e-9)
    sums = torch.zeros(3, dtype=torch.float64).index_add(0, STRUCTURES, charges)
    torch.testing.assert_close(sums, TOTALS, rtol=0, atol=1e-13)
    assert charges[4] == -2.0  # alone in its structure


def solution(matrix: Tensor, electronegativity: Tensor) -> tuple[Tensor, Tensor]:
    """Energy and charges with derivatives, as a model computes them."""
    problem = problem_of(matrix)
    charges = equilibrate(problem, electronegativity.detach(), TOTALS)
    gradient = electronegativity + matrix @ charges
    energy = electronegativity @ charges + 0.5 * charges @ matrix @ charges
    return energy + relaxation_energy(problem, gradient).sum(), charges + relaxation_charges(problem, gradient)


def parameterised(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Energy and charges of an operator and electronegativities that both depend, non-linearly, on parameters."""
    scale = torch.outer(1.0 + 0.2 * parameters.sin(), 1.0 + 0.2 * parameters.sin())
    return solution(random_matrix(0) * scale, random_potentials(0) * parameters.exp())


PARAMETERS = random_potentials(9).requires_grad_()


def test_first_derivatives_of_energy_and_charges() -> None:
    assert torch.autograd.gradcheck(parameterised, (PARAMETERS,), eps=1e-5, atol=1e-6)


def test_second_derivatives_of_the_energy() -> None:
    assert torch.autograd.gradgradcheck(lambda x: parameterised(x)[0], (PARAMETERS,), eps=1e-5, atol=1e-6)


def test_the_implicit_term_matters_to_second_derivatives() -> None:
    """Charges held fixed would give other curvatures, so that the check above can fail."""

    def held(parameters: Tensor) -> Tensor:
        scale = torch.outer(1.0 + 0.2 * parameters.sin(), 1.0 + 0.2 * parameters.sin())
        matrix, electronegativity = random_matrix(0) * scale, random_potentials(0) * parameters.exp()
        charges = equilibrate(problem_of(matrix), electronegativity.detach(), TOTALS)
        return electronegativity @ charges + 0.5 * charges @ matrix @ charges

    exact = torch.autograd.functional.hessian(lambda x: parameterised(x)[0], PARAMETERS)
    assert (torch.autograd.functional.hessian(held, PARAMETERS) - exact).abs().max() > 0.1


def test_no_solve_is_spent_on_forces() -> None:
    calls = 0
    matrix, electronegativity = random_matrix(0), random_potentials(0).requires_grad_()
    charges = equilibrate(problem_of(matrix), electronegativity.detach(), TOTALS)

    def counted(values: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return matrix @ values

    problem = EquilibrationProblem(counted, matrix.diagonal(), STRUCTURES, len(SIZES))
    gradient = electronegativity + matrix @ charges
    energy = electronegativity @ charges + relaxation_energy(problem, gradient).sum()
    (first,) = torch.autograd.grad(energy, electronegativity, create_graph=True)
    assert calls == 0
    first.square().sum().backward()
    assert calls > 0


def test_an_operator_that_is_not_positive_is_refused() -> None:
    with pytest.raises(StructureError, match="charges have no equilibrium"):
        equilibrate(problem_of(random_matrix(0) - 6.0 * torch.eye(11, dtype=torch.float64)), PARAMETERS, TOTALS)
