"""Which decomposition serves a target: an exact one, one of a given rank, or the smallest that reaches a tolerance."""

import numpy as np

from mlip.tensor_products.cp_cache import cached_fit
from mlip.tensor_products.cp_exact import exact_factors, exact_target, shipped_factors
from mlip.tensor_products.cp_fit import CPFactors
from mlip.tensor_products.cp_target import CPTarget


def factors_of_rank(target: CPTarget, rank: int, seed: int, restarts: int) -> CPFactors:
    """A decomposition of at most the given rank: exact if it suffices, else shipped, else fitted or from the cache."""
    exact = exact_factors(target) if exact_target(target) == target else None
    if exact is not None and exact.rank <= rank:
        return exact
    return shipped_factors(target, rank) or cached_fit(target.tensor, rank, seed, restarts)


def factors_within(target: CPTarget, tolerance: float, seed: int, restarts: int) -> CPFactors | None:
    """The decomposition of the lowest rank whose fit reaches a relative error, found by bisection.

    A dozen fits at most: seconds up to degree 2, a minute at degree 3, many at degree 4, once on a machine.

    Returns:
        None where no fit reached the tolerance, which happens close to rounding only.
    """
    exact = exact_factors(target) if exact_target(target) == target else None
    enough = exact.rank if exact is not None else target.always_enough
    best = factors_of_rank(target, enough, seed, restarts)
    too_low = _least_rank(target, tolerance) - 1
    while enough - too_low > 1:
        rank = (enough + too_low) // 2
        factors = factors_of_rank(target, rank, seed, restarts)
        if factors.error <= tolerance:
            best, enough = factors, rank
        else:
            too_low = rank
    return best if best.error <= tolerance else None


def _least_rank(target: CPTarget, tolerance: float) -> int:
    """Rank below which no decomposition reaches a tolerance: that of each unfolding (Eckart, Young 1936)."""
    ranks = [1]
    for axis in range(3):
        unfolding = np.moveaxis(target.tensor, axis, 0).reshape(target.tensor.shape[axis], -1)
        values = np.linalg.svd(unfolding, compute_uv=False)
        # tails[r] is what the best matrix of rank r misses.
        tails = np.sqrt(np.append(np.cumsum(values[::-1] ** 2)[::-1], 0.0)) / np.linalg.norm(values)
        ranks.append(int(np.argmax(tails <= tolerance)))
    return max(ranks)
