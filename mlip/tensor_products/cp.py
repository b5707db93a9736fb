"""Backend `cp`: tensor decomposition networks, the product as rank-one terms."""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mlip.errors import ConfigError
from mlip.tensor_products.backend import Backend
from mlip.tensor_products.couplings import COUPLINGS, Coupling
from mlip.tensor_products.cp_exact import EXACT, HIGHEST_DEGREE, exact_factors, exact_target
from mlip.tensor_products.cp_factors import factors_of_rank, factors_within
from mlip.tensor_products.cp_fit import RESTARTS, CPFactors, relative_error
from mlip.tensor_products.cp_product import cp_product
from mlip.tensor_products.cp_target import CPTarget
from mlip.tensor_products.sectors import sectors
from mlip.tensor_products.spec import ProductSpec

_NAMES = ("factor_in1", "factor_in2", "factor_out")


class CP(Backend):
    """The product `z = C((A x) ⊙ (B y))` of a CP decomposition of the coupling, with R rank-one terms.

    A tensor decomposition network (Lin et al. 2025, arXiv 2507.01131): R (d1 + d2 + d3) multiplications per channel
    take the place of d1 d2 d3, and all paths share their weights. With an exact decomposition it computes the coupling
    to rounding. Of a lower rank it is an approximation, whose deviation from equivariance is of the size of `error`.

    Factors that are not exact belong to a model like its weights, since a fit on another machine may end elsewhere:
    they are in the state dict, in float64 whatever the dtype of the module. Exact factors are not.

    Args:
        spec: What is to be computed.
        rank: Number of terms R at most, for signals that hold each degree once; `exact`, the default, for as many as an
            exact decomposition needs. If the exact one needs no more than the given rank, it is taken.
        tolerance: Instead of the rank, the relative error to be reached, with the lowest rank found.
        trainable: Whether the factors are parameters, which training moves away from the coupling and equivariance.
        seed: Seed of fits. Exact factors, and the shipped ones of rank 7 L² for all degrees up to L, have none.
        restarts: Restarts of a fit, the best of which is taken.

    Attributes:
        rank: Terms of the decomposition; twice as many are computed where inversion forbids some of its couplings.

    Raises:
        ConfigError: options out of range, rank and tolerance together, or no exact decomposition is known.
    """

    couplings: ClassVar[tuple[Coupling, ...]] = COUPLINGS

    def __init__(
        self,
        spec: ProductSpec,
        *,
        rank: int | Literal["exact"] | None = None,
        tolerance: float | None = None,
        trainable: bool = False,
        seed: int = 0,
        restarts: int = RESTARTS,
    ) -> None:
        super().__init__(spec)
        target = CPTarget.of(spec)
        _check(target, rank, tolerance, seed, restarts)
        if tolerance is not None:
            factors = _within(target, tolerance, seed, restarts)
        elif rank is None or rank == "exact":
            target = exact_target(target)
            factors = _exact(target)
        else:
            factors = factors_of_rank(target, rank, seed, restarts)
        self.rank = factors.rank
        self.trainable = trainable
        signals = sectors(spec, target.couples)
        lifted = [
            np.ascontiguousarray(signals.lift(operand, factor.T, spec).reshape(-1, spec.dims[operand]))
            for operand, factor in enumerate(factors.factors)
        ]
        stored = relative_error(spec.tensor(), *(each.T for each in lifted)) > EXACT
        for name, value in zip(_NAMES, lifted, strict=True):
            if trainable:
                self.register_parameter(name, nn.Parameter(torch.tensor(value, dtype=torch.get_default_dtype())))
            else:
                self.register_constant(name, torch.tensor(value), stored=stored)

    @property
    def error(self) -> float:
        """Relative Frobenius error of the coupling tensor that the present factors make."""
        tables = [getattr(self, name).detach() if self.trainable else self._exact[name] for name in _NAMES]
        first, second, third = (table.to("cpu", torch.float64).numpy().T for table in tables)
        return relative_error(self.spec.tensor(), first, second, third)

    @property
    def exact(self) -> bool:
        """Whether the factors are constants with an error below 1e-10."""
        return not self.trainable and self.error <= EXACT

    def factors(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tables A [R, dims[0]], B [R, dims[1]] and C [dims[2], R] in the dtype and on the device of a tensor."""
        first, second, third = self._tables(like)
        return first, second, third.T

    def forward(self, x: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        if self.trainable or weight is None or self.spec.weights != "shared":
            return super().forward(x, y, weight)
        return cp_product(x, y, *self._tables(x), weight)

    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        first, second, third = self._tables(x)
        if not self.trainable:
            return cp_product(x, y, first, second, third)
        terms = torch.einsum("ri,nic->nrc", first, x) * torch.einsum("rj,njc->nrc", second, y)
        return torch.einsum("rk,nrc->nkc", third, terms)

    def flops(self, batch: int, channels: int, channels_in2: int) -> int:
        terms = len(getattr(self, _NAMES[0]))
        d1, d2, d3 = self.spec.dims
        return batch * terms * ((2 * d1 + 2 * d3 + 1) * channels + 2 * d2 * channels_in2)

    def _tables(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All three tables with their terms first, [R, dims]."""
        if self.trainable:
            first, second, third = (getattr(self, name).to(like) for name in _NAMES)
        else:
            first, second, third = (self.constant(name, like) for name in _NAMES)
        return first, second, third


def _exact(target: CPTarget) -> CPFactors:
    factors = exact_factors(target)
    if factors is None:
        raise ConfigError(
            f"exact CP decompositions of the coupling '{target.coupling}' are known up to degree {HIGHEST_DEGREE} and "
            f"not for {target.l_max}: give rank= or tolerance=, or choose the backend clebsch_gordan."
        )
    return factors


def _within(target: CPTarget, tolerance: float, seed: int, restarts: int) -> CPFactors:
    factors = factors_within(target, tolerance, seed, restarts)
    if factors is None:
        raise ConfigError(f"no CP fit reached the tolerance {tolerance}: give a larger one, or more restarts.")
    return factors


def _check(target: CPTarget, rank: Any, tolerance: Any, seed: Any, restarts: Any) -> None:
    """Refuse options out of range."""
    if rank is not None and tolerance is not None:
        raise ConfigError(f"a CP product has rank={rank!r} and tolerance={tolerance!r}: give one of them.")
    if rank is not None and rank != "exact" and not (_whole(rank) and 1 <= rank <= target.always_enough):
        raise ConfigError(
            f"the rank of a CP product is {rank!r}: give a whole number from 1 to {target.always_enough}, which is "
            "always enough for these degrees, or 'exact'."
        )
    if tolerance is not None and not (isinstance(tolerance, float) and 1e-12 < tolerance < 1):
        raise ConfigError(f"the tolerance of a CP product is {tolerance!r}: give a number between 1e-12 and 1.")
    if not (_whole(seed) and seed >= 0):
        raise ConfigError(f"the seed of a CP fit is {seed!r}: give a whole number, 0 or more.")
    if not (_whole(restarts) and restarts >= 1):
        raise ConfigError(f"the restarts of a CP fit are {restarts!r}: give a whole number, 1 or more.")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
