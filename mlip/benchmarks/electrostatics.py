"""The benchmark of electrostatics: error against time of all methods, and ranks against tolerance."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mlip.benchmarks import electrostatics_torch_pme as peer
from mlip.benchmarks.electrostatics_contenders import (
    MATRIX_DIRECT,
    OURS,
    Contender,
    ours,
    plain_direct,
    steps_of,
    torch_pme,
)
from mlip.benchmarks.electrostatics_systems import (
    ChargedBox,
    EnergyForces,
    Reference,
    charged_box,
    energy_error,
    force_error,
    reference,
    solve,
)
from mlip.benchmarks.records import failure
from mlip.benchmarks.timing import Statistics, Step, Stopwatch, interleave
from mlip.electrostatics import CoulombSolver

Note = Callable[[str], None]
RANK_CUTOFF = 6.0  # Å
RANK_TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12)
_OUR_NAMES = frozenset(name for names in OURS.values() for name in names)


@dataclass(frozen=True)
class ElectrostaticsPlan:
    """What is measured.

    Attributes:
        boundaries: Of `open` and `periodic`.
        charges: Numbers of charges.
        tolerances: Relative errors of forces.
        seconds: For each contender and problem, unless the fewest rounds take longer.
        call_limit: Seconds; what takes longer is left out.
        memory: Bytes; what takes more is left out.
        rank_charges: Number of charges whose ranks are looked at.
    """

    boundaries: Sequence[str]
    charges: Sequence[int]
    tolerances: Sequence[float]
    seconds: float
    call_limit: float
    memory: float
    rank_charges: int

    @property
    def problems(self) -> int:
        """How many lists of records `run_electrostatics` yields."""
        return len(self.boundaries) * len(self.charges) * len(self.tolerances)


@dataclass(frozen=True)
class ElectrostaticsRecord:
    """Energy and forces of random charges by a contender, measured, or left out for a reason.

    Attributes:
        tolerance: That the contender was asked for.
        parameters: How it computed.
        reason: Why it was not measured; "" if it was.
        reference: What errors are against.
        force_error: ‖difference‖ / ‖forces‖.
        energy_error: eV for each charge.
        median_ms, p20_ms, p80_ms: Of `rounds` rounds, the pair list kept from an earlier call.
        listed_ms, listed_p20_ms, listed_p80_ms: The same with a pair list made in every call, or, where none is
            needed, without.
        speedup: Of ours: time of the quickest other package or baseline over this one's, both with lists that are kept.
        speedup_listed: The same, both with lists that are made in every call.
        speedup_least: The same, the other's list given and ours made in every call.
        of_best: Of `auto`: its `median_ms` over that of the quickest of our methods.
        predicted_ms: Of ours: by the cost model that `auto` chooses by, lists made as often as in dynamics.
    """

    boundary: str
    charges: int
    tolerance: float
    contender: str
    parameters: str = ""
    reason: str = ""
    reference: str = ""
    force_error: float | None = None
    energy_error: float | None = None
    median_ms: float | None = None
    p20_ms: float | None = None
    p80_ms: float | None = None
    listed_ms: float | None = None
    listed_p20_ms: float | None = None
    listed_p80_ms: float | None = None
    rounds: int | None = None
    speedup: float | None = None
    speedup_listed: float | None = None
    speedup_least: float | None = None
    of_best: float | None = None
    predicted_ms: float | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it is a method of `CoulombSolver`."""
        return self.contender in _OUR_NAMES


@dataclass(frozen=True)
class RankRecord:
    """The bases of the separable form at one cutoff, along one side of a cube.

    Attributes:
        degree: Of Chebyshev polynomials, or of harmonics.
        rank: Functions in the basis.
        nodes: Gaussians of the kernel; 0 where it is diagonal.
        force_error: Reached, relative.
    """

    boundary: str
    charges: int
    cutoff: float
    tolerance: float
    degree: int
    rank: int
    nodes: int
    force_error: float


def run_electrostatics(plan: ElectrostaticsPlan, note: Note) -> Iterator[list[ElectrostaticsRecord]]:
    """Measure all contenders of a problem in turns, one problem after another.

    Args:
        plan: What to measure.
        note: Told in a few words what is going on.
    """
    tuner = peer.Tuner(plan.call_limit, plan.memory) if peer.installed() and "periodic" in plan.boundaries else None
    for boundary in plan.boundaries:
        for count in plan.charges:
            note(f"{boundary}, {count} charges: reference")
            box = charged_box(boundary, count)
            truth = reference(box, plan.memory)
            for tolerance in plan.tolerances:
                blank = ElectrostaticsRecord(boundary, count, tolerance, "", reference=truth.method)
                contenders, refused = _contenders(plan, box, truth.found, blank, tuner, note)
                note(f"{boundary}, {count} charges, {tolerance:g}: timing")
                yield [*_measured(plan, contenders, truth, blank), *refused]


def run_ranks(plan: ElectrostaticsPlan) -> Iterator[RankRecord]:
    """Ranks, degrees and errors of the separable form at one cutoff, for all tolerances."""
    for boundary in plan.boundaries:
        box = charged_box(boundary, plan.rank_charges)
        truth = reference(box, plan.memory).found
        for tolerance in RANK_TOLERANCES:
            solver = CoulombSolver(tolerance, RANK_CUTOFF, "chebyshev_tucker", plan.memory)
            used = solver(box.positions, box.charges, box.cell).plans[0]
            found = solve(solver, box, box.positions)
            yield RankRecord(
                boundary=boundary,
                charges=plan.rank_charges,
                cutoff=RANK_CUTOFF,
                tolerance=tolerance,
                degree=max(used.degrees),
                rank=max(used.ranks),
                nodes=used.nodes,
                force_error=force_error(found, truth),
            )


def with_ratios(records: Sequence[ElectrostaticsRecord]) -> list[ElectrostaticsRecord]:
    """Records of one problem with what follows from comparing them."""
    timed = [record for record in records if record.median_ms is not None]
    methods = [record for record in timed if record.is_ours and record.contender != "auto"]
    others = [record for record in timed if not record.is_ours]
    kept, listed, best = _quickest(others, "median_ms"), _quickest(others, "listed_ms"), _quickest(methods, "median_ms")
    return [
        replace(
            record,
            speedup=_ratio(kept, record.median_ms),
            speedup_listed=_ratio(listed, record.listed_ms),
            speedup_least=_ratio(kept, record.listed_ms),
            of_best=_ratio(record.median_ms, best) if record.contender == "auto" else None,
        )
        if record.is_ours
        else record
        for record in records
    ]


def _quickest(records: Sequence[ElectrostaticsRecord], name: str) -> float | None:
    return min((getattr(record, name) for record in records), default=None)


def _ratio(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first / second


def _contenders(
    plan: ElectrostaticsPlan,
    box: ChargedBox,
    truth: EnergyForces,
    blank: ElectrostaticsRecord,
    tuner: peer.Tuner | None,
    note: Note,
) -> tuple[list[Contender], list[ElectrostaticsRecord]]:
    """All that can run, and records of those that cannot."""
    makers: dict[str, Callable[[], Contender]] = {}

    def make_ours(method: str) -> Callable[[], Contender]:
        return lambda: ours(method, box, blank.tolerance, plan.call_limit, plan.memory)

    def make_peer(method: str, tuner: peer.Tuner) -> Callable[[], Contender]:
        return lambda: torch_pme(tuner.tune(method, box, truth, blank.tolerance))

    for method in OURS[box.boundary]:
        makers[method] = make_ours(method)
    if box.boundary == "open":
        makers[MATRIX_DIRECT] = lambda: plain_direct(box, plan.call_limit)
    elif tuner is not None:
        makers |= {f"torch-pme {method}": make_peer(method, tuner) for method in peer.METHODS}
    contenders, refused = [], []
    for name, make in makers.items():
        note(f"{box.boundary}, {blank.charges} charges, {blank.tolerance:g}: {name}")
        try:
            contenders.append(make())
        except Exception as error:  # One contender's defect must not cost the others their results.
            refused.append(replace(blank, contender=name, reason=failure(error)))
    return contenders, refused


def _measured(
    plan: ElectrostaticsPlan, contenders: list[Contender], truth: Reference, blank: ElectrostaticsRecord
) -> list[ElectrostaticsRecord]:
    stopwatch = Stopwatch()
    records: dict[str, ElectrostaticsRecord] = {}
    steps: dict[tuple[str, str], Step] = {}
    for contender in contenders:
        found = contender.kept()
        record = replace(
            blank,
            contender=contender.name,
            parameters=contender.parameters,
            force_error=force_error(found, truth.found),
            energy_error=energy_error(found, truth.found),
            predicted_ms=None if contender.plan is None else 1e3 * contender.plan.seconds,
        )
        own = dict(steps_of(contender))
        taken = max(stopwatch.warm_up(step, plan.call_limit) for step in own.values())
        if taken > plan.call_limit:
            record = replace(record, reason=f"a call took {taken:.1f} s, more than {plan.call_limit:g} s")
        else:
            steps |= own
        records[contender.name] = record
    times = interleave(steps, plan.seconds * len(steps), stopwatch) if steps else {}
    for (name, lists), statistics in times.items():
        records[name] = _timed(records[name], lists, statistics)
    return with_ratios(list(records.values()))


def _timed(record: ElectrostaticsRecord, lists: str, times: Statistics) -> ElectrostaticsRecord:
    median, p20, p80 = (1e3 * seconds for seconds in times[:3])
    if lists == "listed":
        return replace(record, listed_ms=median, listed_p20_ms=p20, listed_p80_ms=p80)
    # Where no list is needed, this is all there is; otherwise the other time follows.
    return replace(
        record,
        rounds=times.rounds,
        median_ms=median,
        p20_ms=p20,
        p80_ms=p80,
        listed_ms=median,
        listed_p20_ms=p20,
        listed_p80_ms=p80,
    )
