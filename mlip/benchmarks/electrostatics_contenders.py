"""Who is measured: our methods, the direct sum of plain torch, and the calculators of torch-pme."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mlip.benchmarks.electrostatics_direct import matrix_direct
from mlip.benchmarks.electrostatics_systems import ChargedBox, EnergyForces, solve
from mlip.benchmarks.electrostatics_torch_pme import TorchPME
from mlip.benchmarks.timing import Step
from mlip.electrostatics import CoulombSolver, Plan
from mlip.electrostatics.pairs import SKIN
from mlip.errors import ConfigError

OURS = {
    "open": ("auto", "direct", "chebyshev_tucker"),
    "periodic": ("auto", "ewald", "chebyshev_tucker"),
}
MATRIX_DIRECT = "cdist_direct"
# Of `matrix_direct`, on the generous side: for what is left out.
_SECONDS_PER_PAIR = 8e-9
# One call is not enough to settle the allocator.
_UNTIMED_SECONDS = 0.02
# A call that takes longer has settled long before its end.
_SLOW_SECONDS = 0.5


@dataclass(frozen=True)
class Contender:
    """A calculation that is ready to run.

    Attributes:
        name: What tables call it.
        kept: Energy and forces, the pair list of an earlier call serving again.
        listed: The same with a pair list that is made in the call; None where no list is needed.
        parameters: How it computes, in words.
        plan: Of ours; None for others.
    """

    name: str
    kept: Callable[[], EnergyForces]
    listed: Step | None
    parameters: str
    plan: Plan | None = None


def ours(method: str, box: ChargedBox, tolerance: float, call_limit: float, memory: float) -> Contender:
    """A method of `CoulombSolver`, with the cutoff that it chooses.

    Raises:
        StructureError: the method takes more memory.
        ConfigError: it would take longer than the limit in seconds.
    """
    kept, listed = (CoulombSolver(tolerance, None, method, memory) for _ in range(2))  # type: ignore[arg-type]
    planned = kept.plan(box.cell, None, len(box.charges)).seconds
    if planned > call_limit:
        raise ConfigError(f"a call would take some {planned:.0f} s, and {call_limit:g} s are allowed.")
    plan = kept(box.positions, box.charges, box.cell).plans[0]
    # There and back, as far as takes a new list each time.
    places = itertools.cycle([box.positions - SKIN / 2, box.positions + SKIN / 2])

    def listed_step() -> Callable[[], EnergyForces]:
        positions = next(places)
        return lambda: solve(listed, box, positions)

    return Contender(
        method,
        lambda: solve(kept, box, box.positions),
        None if plan.method == "direct" else listed_step,
        _words(plan),
        plan,
    )


def plain_direct(box: ChargedBox, call_limit: float) -> Contender:
    """The direct sum of plain torch.

    Raises:
        ConfigError: it would take longer than the limit in seconds.
    """
    predicted = _SECONDS_PER_PAIR * len(box.charges) ** 2
    if predicted > call_limit:
        raise ConfigError(f"a call would take some {predicted:.0f} s, and {call_limit:g} s are allowed.")
    return Contender(MATRIX_DIRECT, lambda: matrix_direct(box.positions, box.charges), None, "all pairs, cdist")


def torch_pme(calculation: TorchPME) -> Contender:
    """A calculator of torch-pme."""
    positions = calculation.box.positions
    pairs = calculation.pairs(positions)
    return Contender(
        f"torch-pme {calculation.parameters.method}",
        lambda: calculation.solve(positions, pairs),
        lambda: lambda: calculation.solve(positions, calculation.pairs(positions)),
        str(calculation.parameters),
    )


def steps_of(contender: Contender) -> Iterator[tuple[tuple[str, str], Step]]:
    """What is timed of a contender, by its name and `kept` or `listed`.

    The call that is timed follows others of the same that are not, so that caches and allocator are as this contender
    leaves them, and not as the one before it in the round.
    """
    yield (contender.name, "kept"), _after_its_like(lambda: contender.kept)
    if contender.listed is not None:
        yield (contender.name, "listed"), _after_its_like(contender.listed)


def _after_its_like(step: Step) -> Step:
    settles = True

    def prepare() -> Callable[[], Any]:
        nonlocal settles
        start, taken = time.perf_counter(), 0.0
        while settles and taken < _UNTIMED_SECONDS:
            step()()
            taken = time.perf_counter() - start
        settles = taken < _SLOW_SECONDS and settles
        return step()

    return prepare


def _words(plan: Plan) -> str:
    if plan.cutoff is None:
        return plan.method
    ranks = "" if plan.method == "ewald" else ", ranks " + "×".join(map(str, plan.ranks))
    return f"{plan.method}, cutoff {plan.cutoff:g} Å{ranks}"
