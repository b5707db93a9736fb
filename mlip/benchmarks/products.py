"""The benchmark of tensor products: every contender on every problem, side by side."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from mlip.benchmarks.contenders import Contender, Request, build_contender, relative_error
from mlip.benchmarks.memory import peak_memory
from mlip.benchmarks.passes import Pass, forward_and_backward, make_step
from mlip.benchmarks.problems import Operands, Problem, Setting, make_operands, make_problem
from mlip.benchmarks.records import Record, failure
from mlip.benchmarks.roofline import Roofline
from mlip.benchmarks.timing import Statistics, Stopwatch, interleave
from mlip.errors import ConfigError
from mlip.tensor_products import expressivity, interactability
from mlip.tensor_products.couplings import Coupling
from mlip.tensor_products.cp import CP
from mlip.tensor_products.product import Mode
from mlip.tensor_products.spec import WeightStructure

_PROBED_ROWS = 8


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        settings, degrees, couplings, weights, mode, channels, batch: See `mlip.benchmarks.problems.Problem`.
        requests: The contenders.
        passes: What is timed of each.
        memory_limit: Bytes that operands and one contender may take.
        seconds: For each contender and pass, unless the fewest rounds take longer.
        call_limit: Seconds; a contender with a slower pass is left out.
    """

    settings: list[Setting]
    degrees: list[int]
    couplings: list[Coupling]
    weights: WeightStructure
    mode: Mode
    channels: int
    batch: int
    dtype: torch.dtype
    device: torch.device
    requests: list[Request]
    passes: list[Pass]
    memory_limit: float
    seconds: float
    call_limit: float

    def problem(self, setting: Setting, degree: int, coupling: Coupling) -> Problem:
        """One of the problems.

        Raises:
            ConfigError: channels or batch out of range.
        """
        return make_problem(
            setting,
            degree,
            coupling=coupling,
            weights=self.weights,
            mode=self.mode,
            channels=self.channels,
            batch=self.batch,
        )


@dataclass(frozen=True)
class _Entry:
    """A contender on its mark, with what is known of it before it is timed."""

    contender: Contender
    operands: Operands
    record: Record


def run_plan(plan: Plan, roofline: Roofline) -> Iterator[list[Record]]:
    """Measure; yields the records of one setting and degree after another."""
    for setting in plan.settings:
        for degree in plan.degrees:
            yield _run_degree(plan, setting, degree, roofline)


def _run_degree(plan: Plan, setting: Setting, degree: int, roofline: Roofline) -> list[Record]:
    """All couplings and contenders of one setting and degree, timed in the same rounds."""
    skipped: list[Record] = []
    entries: list[_Entry] = []
    for coupling in plan.couplings:
        problem = plan.problem(setting, degree, coupling)
        operands: Operands | None = None
        for request in plan.requests:
            record = _blank(plan, problem, request)
            try:
                _refuse_large_operands(plan, problem)
                operands = operands or make_operands(problem, plan.dtype, plan.device)
                entries.append(_prepare(plan, problem, request, operands, record))
            except Exception as error:  # One contender's defect must not cost the others their results.
                skipped.append(replace(record, reason=failure(error)))
    measured: list[Record] = []
    for which in plan.passes:
        done, failed = _time_pass(plan, which, entries, roofline)
        measured += done
        skipped += failed
    return measured + skipped


def _blank(plan: Plan, problem: Problem, request: Request) -> Record:
    return Record(
        setting=problem.setting,
        degree=problem.degree,
        coupling=problem.coupling,
        weights=problem.weights,
        mode=problem.mode,
        channels=problem.channels,
        batch=problem.batch,
        dtype=str(plan.dtype).removeprefix("torch."),
        contender=request.label,
    )


def _refuse_large_operands(plan: Plan, problem: Problem) -> None:
    numbers = problem.batch * (sum(irreps.dim for irreps in problem.irreps) + problem.weight_numel)
    _refuse_beyond(plan.memory_limit, numbers * plan.dtype.itemsize)


def _refuse_beyond(limit: float, memory: float) -> None:
    if memory > limit:
        raise ConfigError(
            f"it would take about {memory / 2**30:.2g} GiB, more than the limit of {limit / 2**30:.2g} GiB: "
            "raise --memory-limit, or give a smaller batch."
        )


def _prepare(plan: Plan, problem: Problem, request: Request, operands: Operands, record: Record) -> _Entry:
    """Build a contender, hold it against the definition, and find out what it costs and can express.

    Raises:
        ConfigError: it cannot compute the problem, computes something else, or takes too much memory.
    """
    start = time.perf_counter()
    contender = build_contender(request, problem, plan.dtype, plan.device)
    construction = time.perf_counter() - start
    probe = contender.adopt(operands.rows(_PROBED_ROWS))
    probed = peak_memory(make_step("full", contender.call, probe)(), plan.device)
    own = contender.adopt(operands)
    size = sum(each.nbytes for each in (*own.arguments, own.cotangent))
    _refuse_beyond(plan.memory_limit, size + probed * problem.batch / len(probe.x))
    error = relative_error(contender, problem, operands)
    peak = peak_memory(lambda: forward_and_backward(contender.call, own), plan.device)
    differs = [contender.differs, *([] if contender.exact else [_approximation(contender, error)])]
    record = replace(
        record,
        exact=contender.exact,
        differs="; ".join(each for each in differs if each),
        paths=len(problem.spec.paths),
        expressivity=_expressivity(contender, problem),
        interactions=_interactions(contender, problem),
        error=error,
        peak_memory_mb=peak / 1e6,
        construction_s=construction,
    )
    if contender.product is not None:
        work = contender.product.work(problem.batch, plan.dtype)
        record = replace(
            record,
            equivariance_error=contender.product.equivariance_error(),
            flops=work.flops,
            bytes=work.bytes,
        )
    return _Entry(contender, own, record)


def _approximation(contender: Contender, error: float) -> str:
    ranks = [part.rank for part in contender.product.products if isinstance(part, CP)] if contender.product else []
    how = f"truncated at rank {ranks[0]}" if ranks else "approximate"
    return f"{how}, relative error {error:.1e}"


def _expressivity(contender: Contender, problem: Problem) -> int:
    if contender.product is None:
        # Other packages get a weight per path wherever there are weights.
        return 1 if problem.weights == "none" else len(problem.spec.paths)
    if contender.exact and problem.weights == "per_path":
        # Each path fills a block of its own, so that the paths are independent; the rank would take gigabytes to find.
        return len(problem.spec.paths)
    return expressivity(contender.product)


def _interactions(contender: Contender, problem: Problem) -> int:
    if contender.product is None or contender.exact:
        return len({(path.irrep_in1.l, path.irrep_in2.l, path.irrep_out.l) for path in problem.spec.paths})
    return len(interactability(contender.product))


def _time_pass(plan: Plan, which: Pass, entries: list[_Entry], roofline: Roofline) -> tuple[list[Record], list[Record]]:
    """Warm every contender up, leave out those that fail or are too slow, time the others in turns."""
    stopwatch = Stopwatch.of(plan.device)
    steps = {number: make_step(which, each.contender.call, each.operands) for number, each in enumerate(entries)}
    failed: list[Record] = []
    for number, each in enumerate(entries):
        record = replace(each.record, measured=which)
        try:
            seconds = stopwatch.warm_up(steps[number], plan.call_limit)
        except Exception as error:  # For example a package without double backward.
            failed.append(replace(record, reason=failure(error)))
            del steps[number]
            continue
        if seconds > plan.call_limit:
            failed.append(replace(record, reason=f"one call took {seconds:.1f} s, more than {plan.call_limit:g} s"))
            del steps[number]
    if not steps:
        return [], failed
    times = interleave(steps, plan.seconds * len(steps), stopwatch)
    return [_timed(entries[number].record, which, found, roofline) for number, found in times.items()], failed


def _timed(record: Record, which: Pass, times: Statistics, roofline: Roofline) -> Record:
    record = replace(
        record,
        measured=which,
        median_ms=1e3 * times.median,
        p20_ms=1e3 * times.p20,
        p80_ms=1e3 * times.p80,
        rounds=times.rounds,
    )
    if which != "forward" or record.flops is None or record.bytes is None:
        return record
    flops = record.flops / times.median
    return replace(
        record,
        gflops=flops / 1e9,
        gbytes=record.bytes / times.median / 1e9,
        roofline_fraction=flops / roofline.attainable(record.flops, record.bytes),
    )
