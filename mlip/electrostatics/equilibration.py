"""Charge equilibration: the charges of least energy under given total charges, and their derivatives.

The energy of charges q is `χ·q + ½ q·A q` with electronegativities χ and a symmetric positive definite operator A:
hardnesses, Coulomb interaction, self energies (Rappé and Goddard, J. Phys. Chem. 95, 3358 (1991); Ko et al., Nat.
Commun. 12, 398 (2021)). A is known by its products with vectors alone.

Derivatives do not go through the iterations. With q* the solution, g = χ + A q* its gradient, which is constant over a
structure, and S the inverse of A on charges without total charge,

    E(θ) = E(q*, θ) − ½ g(θ)·S g(θ),    q(θ) = q* − S g(θ)

with q* held fixed have the right value, E the right first and second derivatives, q the right first ones: S g is zero
at the solution, so that its own dependence on θ does not matter. A first derivative of the energy costs no solve.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlip.errors import StructureError
from mlip_kernels.segment_sum import segment_sum

Operator = Callable[[Tensor], Tensor]
# Residuals of potentials that are left, relative to the largest that came in; float64 loses a few digits to rounding.
_RELATIVE_RESIDUAL = 1e-11
_MOST_ITERATIONS = 500


class EquilibrationProblem(NamedTuple):
    """The quadratic energy of charges, of several structures at once, all of it without gradients.

    Attributes:
        operator: A, from charges, e [atoms], to potentials, V [atoms].
        diagonal: An estimate of A's diagonal, V/e [atoms], positive.
        structures: Structure of each atom, int64 [atoms].
        num_structures: Their number.
    """

    operator: Operator
    diagonal: Tensor
    structures: Tensor
    num_structures: int

    def total(self, values: Tensor) -> Tensor:
        """Sums over the atoms of each structure [structures]."""
        return segment_sum(values, self.structures, self.num_structures)

    def spread(self, values: Tensor) -> Tensor:
        """Values of structures [structures] at their atoms [atoms]."""
        return values.index_select(0, self.structures)

    def response(self, potentials: Tensor) -> Tensor:
        """S times potentials: charges without total charge whose potentials are these, up to a constant, e [atoms]."""
        return _solve(self, potentials)


def equilibrate(problem: EquilibrationProblem, electronegativity: Tensor, total_charge: Tensor) -> Tensor:
    """The charges of least energy, e [atoms], without gradients.

    Args:
        problem: The operator.
        electronegativity: χ, V [atoms].
        total_charge: e [structures].

    Raises:
        StructureError: the operator is not positive definite, or the iterations do not converge.
    """
    with torch.no_grad():
        # What each atom would take if all saw one potential.
        softness = 1.0 / problem.diagonal
        start = softness * problem.spread(total_charge / problem.total(softness))
        return start - _solve(problem, electronegativity + problem.operator(start))


def _solve(problem: EquilibrationProblem, potentials: Tensor) -> Tensor:
    """Conjugate gradients among charges without total charge, each structure with steps of its own.

    The preconditioner solves the problem of the diagonal under the same constraint, which keeps every iterate in it
    (Gould, Hribar and Nocedal, SIAM J. Sci. Comput. 23, 1376 (2001)).
    """
    softness = 1.0 / problem.diagonal
    total_softness = problem.total(softness)

    def constrained(values: Tensor) -> Tensor:
        return values - problem.spread(problem.total(softness * values) / total_softness)

    residual = constrained(potentials)
    charges = torch.zeros_like(residual)
    # A structure is done when its residual is; one that starts with none, a single atom, at once.
    threshold = _RELATIVE_RESIDUAL * potentials.abs().max() + torch.finfo(potentials.dtype).tiny
    direction = softness * residual
    size = problem.total(residual * direction)
    for _ in range(_MOST_ITERATIONS):
        if bool((residual.abs() <= threshold).all()):
            return charges - softness * problem.spread(problem.total(charges) / total_softness)
        image = problem.operator(direction)
        curvature = problem.total(direction * image)
        if bool((curvature < 0.0).any()):
            raise StructureError(
                "the charges have no equilibrium: some distribution of charge has negative energy, which a cutoff of "
                "the damping much below the widths of the charges can do; use a larger cutoff or smaller widths."
            )
        step = torch.where(curvature > 0.0, size / curvature.clamp(min=torch.finfo(curvature.dtype).tiny), 0.0)
        charges = charges + problem.spread(step) * direction
        # Rounding is kept from growing along the constant potentials, which charges do not see.
        residual = constrained(residual - problem.spread(step) * image)
        following = problem.total(softness * residual * residual)
        ratio = torch.where(size > 0.0, following / size.clamp(min=torch.finfo(size.dtype).tiny), 0.0)
        direction = softness * residual + problem.spread(ratio) * direction
        size = following
    raise StructureError(
        f"the charges have not come to equilibrium in {_MOST_ITERATIONS} iterations, their potentials still differ by "
        f"{float(residual.abs().max()):.1e} V; check the structure for atoms that are too near."
    )


def relaxation_energy(problem: EquilibrationProblem, potentials: Tensor) -> Tensor:
    """`−½ g·S g` of the gradients g at the solution, V [atoms]: zero in value, with the second derivatives it has.

    Returns:
        eV [structures].
    """
    energy: Tensor = _RelaxationEnergy.apply(potentials, problem)
    return energy


def relaxation_charges(problem: EquilibrationProblem, potentials: Tensor) -> Tensor:
    """`−S g` of the gradients g at the solution, V [atoms]: zero in value, with the first derivatives it has, e."""
    charges: Tensor = _RelaxationCharges.apply(potentials, problem)
    return charges


class _RelaxationCharges(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, potentials: Tensor, problem: EquilibrationProblem) -> Tensor:
        ctx.problem = problem
        return torch.zeros_like(potentials)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.problem.response(gradient), None


class _RelaxationEnergy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, potentials: Tensor, problem: EquilibrationProblem) -> Tensor:
        ctx.problem = problem
        ctx.save_for_backward(potentials)
        return potentials.new_zeros(problem.num_structures)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (potentials,) = ctx.saved_tensors
        charges: Tensor = _RelaxationCharges.apply(potentials, ctx.problem)
        return ctx.problem.spread(gradient) * charges, None
