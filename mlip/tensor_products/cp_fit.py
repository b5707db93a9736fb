"""Fit of a canonical polyadic (CP) decomposition `T[i, j, k] ≈ sum over r of a[i, r] b[j, r] c[k, r]`.

Each restart runs proximal alternating least squares (Li, Kindermann, Navasca 2013), whose pull towards the previous
factors carries it through the swamps where plain alternation stalls, and then Levenberg–Marquardt steps, which
converge quadratically where the rank suffices for an exact decomposition.
"""

from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlip.tensor_products.cp_refine import LevenbergMarquardt

# Named in the key of cached fits: to be raised with every change that changes what a fit returns.
ALGORITHM_VERSION = 1
RESTARTS = 8
# Relative error below which nothing but rounding is left to fit.
ROUNDING = 1e-13
_PROXIMAL_WEIGHT, _PROXIMAL_DECAY = 0.3, 0.995
_SWEEPS, _SWEEPS_PER_CHECK, _GAIN_PER_CHECK = 3000, 50, 1e-3
_STEPS = 200
# Alternation is stopped here, since Levenberg–Marquardt steps converge faster.
_CLOSE = 1e-2


@dataclass(frozen=True)
class CPFactors:
    """Factors of a decomposition into `rank` rank-one terms, and how they were found.

    Attributes:
        a: [d1, rank], float64.
        b: [d2, rank].
        c: [d3, rank].
        error: Frobenius norm of what the decomposition misses, relative to that of the tensor.
        seed: Seed of the fit; 0 for factors known in closed form.
        sweeps: Sweeps over the factors and Levenberg–Marquardt steps of the restart that was best.
    """

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    c: NDArray[np.float64]
    error: float
    seed: int = 0
    sweeps: int = 0

    @property
    def rank(self) -> int:
        """Number of rank-one terms."""
        return self.a.shape[1]

    @property
    def factors(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """All three."""
        return self.a, self.b, self.c

    @property
    def largest(self) -> float:
        """Largest absolute entry, which tells how much terms cancel and rounding is amplified."""
        return max(float(np.abs(factor).max()) for factor in self.factors)


def relative_error(tensor: NDArray[np.float64], *factors: NDArray[np.float64]) -> float:
    """Frobenius norm of what three factors [d, rank] miss of a tensor, relative to that of the tensor."""
    first, second, third = factors
    products = (first[:, None] * second[None]).reshape(-1, first.shape[1])
    missed = tensor.reshape(-1, tensor.shape[2]) - products @ third.T
    return float(np.linalg.norm(missed) / np.linalg.norm(tensor))


def balanced(tensor: NDArray[np.float64], factors: CPFactors) -> CPFactors:
    """The same decomposition of a tensor with columns of equal norms in all three factors, and its error measured."""
    norms = [np.linalg.norm(factor, axis=0) for factor in factors.factors]
    mean = np.cbrt(norms[0] * norms[1] * norms[2])
    a, b, c = (factor * (mean / norm) for factor, norm in zip(factors.factors, norms, strict=True))
    return replace(factors, a=a, b=b, c=c, error=relative_error(tensor, a, b, c))


def fit(tensor: NDArray[np.float64], rank: int, seed: int = 0, restarts: int = RESTARTS) -> CPFactors:
    """Fit a decomposition of a given rank; the best of several restarts.

    Too low a rank may have no best approximation: factors then grow while the error creeps on, which `largest` shows.

    Args:
        tensor: What is decomposed, [d1, d2, d3], not all zero.
        rank: Number of rank-one terms.
        seed: Seed of the factors that the restarts begin with.
        restarts: Number of restarts; none follows one that leaves only rounding.

    Returns:
        Factors whose columns have equal norms.
    """
    # Slices that vanish have rows of zeros for factors.
    kept = [np.flatnonzero(np.abs(np.moveaxis(tensor, axis, 0)).max((1, 2))) for axis in range(3)]
    core = torch.tensor(tensor[np.ix_(*kept)])
    generator = np.random.default_rng(seed)
    best: CPFactors | None = None
    for _ in range(restarts):
        start = [torch.tensor(generator.standard_normal((size, rank))) / rank ** (1 / 6) for size in core.shape]
        found, sweeps = _restart(core, start)
        a, b, c = (np.zeros((size, rank)) for size in tensor.shape)
        for factor, rows, part in zip((a, b, c), kept, found, strict=True):
            factor[rows] = part.numpy()
        fitted = balanced(tensor, CPFactors(a, b, c, error=0.0, seed=seed, sweeps=sweeps))
        if best is None or fitted.error < best.error:
            best = fitted
        if best.error <= ROUNDING:
            break
    assert best is not None
    return best


def _restart(tensor: Tensor, start: list[Tensor]) -> tuple[list[Tensor], int]:
    factors, sweeps = _alternate(tensor, start)
    refinement = LevenbergMarquardt(tensor, factors)
    refinement.run(_STEPS, ROUNDING)
    return refinement.factors, sweeps + refinement.steps


def _alternate(tensor: Tensor, start: list[Tensor]) -> tuple[list[Tensor], int]:
    """Proximal alternating least squares, until close to exact or too slow to go on with; the factors and sweeps."""
    factors = list(start)
    unfoldings = [tensor.movedim(axis, 0).flatten(1) for axis in range(3)]
    grams = [factor.T @ factor for factor in factors]
    norm = float(tensor.norm())
    weight, previous = _PROXIMAL_WEIGHT, float("inf")
    for sweep in range(1, _SWEEPS + 1):
        for axis in range(3):
            others = [other for other in range(3) if other != axis]
            gram = reduce(torch.mul, (grams[other] for other in others))
            gram.diagonal().add_(weight)
            products = _khatri_rao(*(factors[other] for other in others))
            pulled = unfoldings[axis] @ products + weight * factors[axis]
            factors[axis] = torch.cholesky_solve(pulled.T, torch.linalg.cholesky(gram)).T.contiguous()
            grams[axis] = factors[axis].T @ factors[axis]
        weight *= _PROXIMAL_DECAY
        if sweep % _SWEEPS_PER_CHECK == 0:
            error = float((unfoldings[2] - factors[2] @ _khatri_rao(factors[0], factors[1]).T).norm()) / norm
            if error < _CLOSE or error > (1 - _GAIN_PER_CHECK) * previous:
                break
            previous = error
    return factors, sweep


def _khatri_rao(first: Tensor, second: Tensor) -> Tensor:
    """Columnwise Kronecker product of [m, rank] and [n, rank], [m n, rank]."""
    return (first[:, None] * second[None]).flatten(0, 1)
