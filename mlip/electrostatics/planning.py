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
from mlip.electrostatics.inputs import Periodicity, text_of
from mlip.electrostatics.plan import Method, Plan
from mlip.electrostatics.separation import Separation, separation
from mlip.errors import StructureError

# Cutoffs that are tried where none is given, Å.
_CUTOFFS = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 14.0, 17.0, 20.0)
_GIB = 2**30
_ROUNDING = 1e-15
_MOST_KEPT = 1000
_ABOUT = 1.25


@dataclass(frozen=True)
class Candidate:
    """A way to compute a structure: a method, and its range separation if it has one."""

    method: Method
    separation: Separation | None

    def cost(self, size: SystemSize) -> Cost:
        """What it is predicted to take."""
        if self.separation is None:
            return direct_cost(size)
        near = short_range_cost(size, self.separation)
        far = (ewald_cost if self.method == "ewald" else separable_cost)(size, self.separation)
        return Cost(near.flops + far.flops, near.seconds + far.seconds, near.memory_bytes + far.memory_bytes)


@dataclass(frozen=True)
class _Choice:
    """What was chosen for a size, and why."""

    size: SystemSize
    candidate: Candidate
    reason: str

    def suits(self, size: SystemSize) -> bool:
        """Whether another size has about the same lengths."""
        ratios = [first / second for first, second in zip(self.size.lengths, size.lengths, strict=True)]
        return all(1 / _ABOUT < ratio < _ABOUT for ratio in ratios)


class Planner:
    """Chooses how structures are computed."""

    def __init__(self, tolerance: float, cutoff: float | None, method: str, memory: float) -> None:
        """The arguments of `CoulombSolver`."""
        self.tolerance = tolerance
        self.cutoff = cutoff
        self.method = method
        self.memory = memory
        self._chosen: dict[tuple[Periodicity, int, int], list[_Choice]] = {}

    def plan(self, size: SystemSize) -> Plan:
        """The cheapest way that is allowed, or that of an earlier structure of about the same size.

        With another way the energy changes by some part of the tolerance, and in dynamics it must not do so whenever a
        size passes a border.

        Raises:
            StructureError: the method asked for does not suit the structure, or all ways take too much memory.
        """
        if len(self._chosen) > _MOST_KEPT:
            self._chosen.clear()
        known = self._chosen.setdefault((size.pbc, size.charges, size.channels), [])
        choice = next((each for each in known if each.suits(size)), None)
        if choice is None:
            choice = _Choice(size, *self._choose(size))
            known.append(choice)
        return self._plan_of(size, choice.candidate, choice.reason)

    def _choose(self, size: SystemSize) -> tuple[Candidate, str]:
        """The way for a size, and why."""
        if size.charges == 0:
            return Candidate("direct", None), "there are no charges"
        self._check_method(size)
        costs = {candidate: candidate.cost(size) for candidate in self._candidates(size)}
        fitting = {candidate: cost for candidate, cost in costs.items() if cost.memory_bytes <= self.memory}
        if not fitting:
            leanest = min(costs, key=lambda candidate: costs[candidate].memory_bytes)
            least = costs[leanest].memory_bytes
            pairs = 0 if leanest.separation is None else short_range_cost(size, leanest.separation).memory_bytes
            remedy = "raise the memory, the cutoff or the tolerance"
            if self.cutoff is not None and pairs > least / 2:
                remedy = "raise the memory or lower the cutoff"
            lengths = " × ".join(f"{length:.0f}" for length in size.lengths)
            raise StructureError(
                f"The box of {lengths} Å would take {least / _GIB:.3g} GiB and {self.memory / _GIB:.3g} GiB are "
                f"allowed: {remedy}."
            )
        best = min(fitting, key=lambda candidate: fitting[candidate].seconds)
        return best, self._reason(best, fitting)

    def _candidates(self, size: SystemSize) -> Iterator[Candidate]:
        methods = (self.method,) if self.method != "auto" else ("direct", "ewald", "chebyshev_tucker")
        if "direct" in methods and not any(size.pbc):
            yield Candidate("direct", None)
        for cutoff in (self.cutoff,) if self.cutoff is not None else _CUTOFFS:
            separated = separation(self.tolerance, cutoff)
            if "ewald" in methods and all(size.pbc):
                yield Candidate("ewald", separated)
            if "chebyshev_tucker" in methods:
                yield Candidate("chebyshev_tucker", separated)

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

    def _reason(self, best: Candidate, fitting: dict[Candidate, Cost]) -> str:
        if self.method != "auto":
            return "asked for"
        quickest: dict[str, float] = {}
        for candidate, cost in fitting.items():
            quickest[candidate.method] = min(cost.seconds, quickest.get(candidate.method, math.inf))
        names = sorted(quickest, key=lambda name: quickest[name])
        times = [f"{name} {quickest[name] * 1e3:.3g} ms" for name in names]
        return f"predicted times: {', '.join(times)}"

    def _plan_of(self, size: SystemSize, candidate: Candidate, reason: str) -> Plan:
        cost, separated = candidate.cost(size), candidate.separation
        degrees, ranks, nodes = (0, 0, 0), (0, 0, 0), 0
        if separated is not None:
            first, second, third = estimated_counts(size, separated)
            degrees = (first - 1, second - 1, third - 1)
        if separated is not None and candidate.method == "chebyshev_tucker":
            ranks, nodes = estimated_ranks(size, separated), estimated_nodes(size, separated)
        return Plan(
            method=candidate.method,
            reason=reason,
            pbc=size.pbc,
            charges=size.charges,
            cutoff=None if separated is None else separated.cutoff,
            alpha=None if separated is None else separated.alpha,
            degrees=degrees,
            ranks=ranks,
            nodes=nodes,
            predicted_error=_ROUNDING if separated is None else self.tolerance,
            memory_bytes=cost.memory_bytes,
            flops=cost.flops,
            seconds=cost.seconds,
        )
