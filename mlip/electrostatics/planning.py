"""The choice of method and parameters."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mlip.electrostatics.costs import (
    Cost,
    SystemSize,
    direct_cost,
    estimated_counts,
    estimated_nodes,
    estimated_ranks,
    ewald_cost,
    separable_cost,
    short_range_cost,
)
from mlip.electrostatics.inputs import text_of
from mlip.electrostatics.plan import Method, Plan
from mlip.electrostatics.separation import Separation, separation
from mlip.errors import StructureError

# Cutoffs that are tried where none is given, Å.
_CUTOFFS = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 14.0, 17.0, 20.0)
_GIB = 2**30
_NAMES = {"direct": "the sum over all pairs", "ewald": "ewald", "chebyshev_tucker": "chebyshev_tucker"}


@dataclass(frozen=True)
class Candidate:
    """A way to compute a structure."""

    method: Method
    separation: Separation | None
    cost: Cost


class Planner:
    """Chooses how structures are computed."""

    def __init__(self, tolerance: float, cutoff: float | None, method: str, memory: float) -> None:
        """The arguments of `CoulombSolver`."""
        self.tolerance = tolerance
        self.cutoff = cutoff
        self.method = method
        self.memory = memory
        self._chosen: dict[SystemSize, Plan] = {}

    def plan(self, size: SystemSize) -> Plan:
        """The cheapest way that is allowed.

        Raises:
            StructureError: the method asked for does not suit the structure, or all ways take too much memory.
        """
        rounded = _rounded(size)
        if rounded not in self._chosen:
            if len(self._chosen) > 1000:
                self._chosen.clear()
            self._chosen[rounded] = self._choose(rounded)
        return self._chosen[rounded]

    def _choose(self, size: SystemSize) -> Plan:
        self._check_method(size)
        candidates = list(self._candidates(size))
        fitting = [candidate for candidate in candidates if candidate.cost.memory_bytes <= self.memory]
        if not fitting:
            least = min(candidate.cost.memory_bytes for candidate in candidates)
            lengths = " × ".join(f"{length:.0f}" for length in size.lengths)
            raise StructureError(
                f"The box of {lengths} Å would take {least / _GIB:.3g} GiB and {self.memory / _GIB:.3g} GiB are "
                "allowed: raise the memory, the cutoff or the tolerance."
            )
        best = min(fitting, key=lambda candidate: candidate.cost.seconds)
        return self._plan_of(size, best, self._reason(best, fitting))

    def _candidates(self, size: SystemSize) -> Iterator[Candidate]:
        methods = (self.method,) if self.method != "auto" else ("direct", "ewald", "chebyshev_tucker")
        if "direct" in methods and not any(size.pbc):
            yield Candidate("direct", None, direct_cost(size))
        for cutoff in (self.cutoff,) if self.cutoff is not None else _CUTOFFS:
            separated = separation(self.tolerance, cutoff)
            near = short_range_cost(size, separated)
            if "ewald" in methods and all(size.pbc):
                yield Candidate("ewald", separated, _total(near, ewald_cost(size, separated)))
            if "chebyshev_tucker" in methods:
                yield Candidate("chebyshev_tucker", separated, _total(near, separable_cost(size, separated)))

    def _check_method(self, size: SystemSize) -> None:
        axes = text_of(size.pbc)
        if self.method == "direct" and any(size.pbc):
            raise StructureError(
                f"The method 'direct' is for open structures, and this one is periodic along {axes}: take 'auto'."
            )
        if self.method == "ewald" and not all(size.pbc):
            raise StructureError(
                "The method 'ewald' is for structures that are periodic in all directions, and this one has these: "
                f"{axes}; take 'auto'."
            )

    def _reason(self, best: Candidate, fitting: list[Candidate]) -> str:
        if self.method != "auto":
            return "asked for"
        quickest: dict[str, float] = {}
        for candidate in fitting:
            quickest.setdefault(candidate.method, math.inf)
            quickest[candidate.method] = min(quickest[candidate.method], candidate.cost.seconds)
        others = [f"{_NAMES[name]} {seconds * 1e3:.3g} ms" for name, seconds in quickest.items() if name != best.method]
        against = f", {', '.join(others)}" if others else ""
        return f"predicted to take {best.cost.seconds * 1e3:.3g} ms{against}"

    def _plan_of(self, size: SystemSize, candidate: Candidate, reason: str) -> Plan:
        separated = candidate.separation
        counts, ranks, nodes = (0, 0, 0), (0, 0, 0), 0
        if separated is not None:
            first, second, third = estimated_counts(size, separated)
            counts = (first - 1, second - 1, third - 1)
            if candidate.method == "chebyshev_tucker":
                ranks, nodes = estimated_ranks(size, separated), estimated_nodes(size, separated)
        return Plan(
            method=candidate.method,
            reason=reason,
            pbc=size.pbc,
            charges=size.charges,
            cutoff=None if separated is None else separated.cutoff,
            alpha=None if separated is None else separated.alpha,
            degrees=counts,
            ranks=ranks,
            nodes=nodes,
            predicted_error=1e-15 if separated is None else self.tolerance,
            memory_bytes=candidate.cost.memory_bytes,
            flops=candidate.cost.flops,
            seconds=candidate.cost.seconds,
        )


def _total(first: Cost, second: Cost) -> Cost:
    return Cost(first.flops + second.flops, first.seconds + second.seconds, first.memory_bytes + second.memory_bytes)


def _rounded(size: SystemSize) -> SystemSize:
    """Sizes in steps of an eighth, so that the choice does not follow every motion of charges."""

    def step(value: float) -> float:
        return 2.0 ** (math.ceil(8 * math.log2(max(value, 1.0))) / 8)

    first, second, third = (step(length) for length in size.lengths)
    return SystemSize(size.pbc, size.charges, size.channels, (first, second, third), step(size.volume))
