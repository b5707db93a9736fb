"""Levenberg–Marquardt steps for a CP decomposition, without ever forming the Jacobian.

With factors F = (A, B, C) and their Gram matrices G = FᵀF, the normal matrix JᵀJ acts on a change V of the factors as
`V_A (G_B ∘ G_C) + A ((V_BᵀB) ∘ G_C + (V_CᵀC) ∘ G_B)` and likewise for B and C (Tomasi, Bro 2006): products of rank ×
rank matrices. The damped normal equations are solved by conjugate gradients, preconditioned by the diagonal blocks.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

_ITERATIONS = 100
_DAMPING, _LARGEST_DAMPING, _SMALLEST_DAMPING = 1e-3, 1e6, 1e-14
# Of the preconditioner only, relative to the diagonal: keeps it defined where terms nearly coincide.
_SHIFT = 1e-10
# Steps that together must gain a part of the error, or the end of what this start can reach has come.
_PATIENCE, _GAIN = 10, 0.02


class LevenbergMarquardt:
    """Steps that minimise ‖T − [[A, B, C]]‖ over all three factors at once.

    Args:
        tensor: T, float64 [d1, d2, d3].
        factors: A, B and C to begin with, [d, rank].

    Attributes:
        error: Relative error of the present factors.
        steps: Number of steps tried.
    """

    def __init__(self, tensor: Tensor, factors: list[Tensor]) -> None:
        self._tensor = tensor
        self._norm = float(tensor.norm())
        # Padded with rows of zeros, which stay zero, all three go through one batched product: [3, largest d, rank].
        self._factors = pad_sequence(factors, batch_first=True)
        self._missed = self._residual(self._factors)
        self._damping, self._growth = _DAMPING, 2.0
        self.error = float(self._missed.norm()) / self._norm
        self.steps = 0

    @property
    def factors(self) -> list[Tensor]:
        """The present factors, [d, rank]."""
        return self._unpadded(self._factors)

    def run(self, steps: int, tolerance: float) -> None:
        """Make at most so many steps, until the error is below the tolerance or hardly falls."""
        errors = [self.error]
        while self.steps < steps and self.error > tolerance and self._damping < _LARGEST_DAMPING:
            self._step()
            errors.append(self.error)
            if len(errors) > _PATIENCE and errors[-1] > (1 - _GAIN) * errors[-1 - _PATIENCE]:
                break

    def _step(self) -> None:
        """One step, taken if it lowers the error; the damping follows its success (Nielsen 1999)."""
        self.steps += 1
        gradient = self._gradient()
        change = self._solve(gradient)
        factors = self._factors + change
        missed = self._residual(factors)
        error = float(missed.norm()) / self._norm
        predicted = float((change * (gradient + self._damping * change)).sum())
        if error < self.error and predicted > 0:
            success = (self.error**2 - error**2) * self._norm**2 / predicted
            self._factors, self._missed, self.error = factors, missed, error
            self._damping = max(self._damping * max(0.1, 1 - (2 * success - 1) ** 3), _SMALLEST_DAMPING)
            self._growth = 2.0
        else:
            self._damping *= self._growth
            self._growth *= 2

    def _unpadded(self, factors: Tensor) -> list[Tensor]:
        return [factor[:size] for factor, size in zip(factors, self._tensor.shape, strict=True)]

    def _residual(self, factors: Tensor) -> Tensor:
        first, second, third = self._unpadded(factors)
        return self._tensor - ((first[:, None] * second).flatten(0, 1) @ third.T).view_as(self._tensor)

    def _gradient(self) -> Tensor:
        """Downhill direction Jᵀ(T − [[A, B, C]]), padded."""
        first, second, third = self.factors
        over_third = self._missed @ third
        of_third = self._missed.flatten(0, 1).T @ (first[:, None] * second).flatten(0, 1)
        parts = [(over_third * second).sum(1), (over_third * first[:, None]).sum(0), of_third]
        return pad_sequence(parts, batch_first=True)

    def _solve(self, gradient: Tensor) -> Tensor:
        """Solution V of (JᵀJ + damping) V = gradient, padded."""
        factors, damping = self._factors, self._damping
        grams = factors.mT @ factors
        one, other = torch.tensor([1, 0, 0]), torch.tensor([2, 2, 1])
        of_one, of_other = grams[one], grams[other]
        blocks = of_one * of_other
        shifted = blocks.clone()
        shifted.diagonal(dim1=1, dim2=2).add_(damping + _SHIFT * float(blocks.diagonal(dim1=1, dim2=2).max()))
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(shifted))

        def normal(change: Tensor) -> Tensor:
            mixed = change.mT @ factors
            crossed = torch.addcmul(mixed[one] * of_other, mixed[other], of_one)
            return torch.baddbmm(change @ blocks, factors, crossed).add_(change, alpha=damping)

        return _conjugate_gradients(normal, inverse, gradient, 1e-3 * min(1.0, self.error) ** 0.5)


def _conjugate_gradients(
    normal: Callable[[Tensor], Tensor], preconditioner: Tensor, right: Tensor, tolerance: float
) -> Tensor:
    """Approximate solution of `normal(x) = right`, to a relative residual or as far as the iterations go."""
    solution = torch.zeros_like(right)
    residual = right.clone()
    conditioned = residual @ preconditioner
    direction = conditioned
    product = torch.linalg.vecdot(residual.flatten(), conditioned.flatten())
    target = tolerance * float(right.norm())
    for _ in range(_ITERATIONS):
        image = normal(direction)
        length = float(product / torch.linalg.vecdot(direction.flatten(), image.flatten()))
        solution.add_(direction, alpha=length)
        residual.sub_(image, alpha=length)
        if float(residual.norm()) <= target:
            break
        conditioned = residual @ preconditioner
        previous, product = product, torch.linalg.vecdot(residual.flatten(), conditioned.flatten())
        direction = torch.addcmul(conditioned, direction, product / previous)
    return solution
