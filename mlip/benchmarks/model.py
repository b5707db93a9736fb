"""The benchmark of whole models: forces, simulation steps and training steps over tensor products and sizes."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from ase import Atoms

from mlip.benchmarks.contenders import Request
from mlip.benchmarks.memory import resident_growth
from mlip.benchmarks.model_steps import TIMESTEP, ase_step, forces_step, training_step
from mlip.benchmarks.records import failure
from mlip.benchmarks.timing import Statistics, Step, Stopwatch, interleave
from mlip.benchmarks.water import water_box
from mlip.calculators import MLIPCalculator
from mlip.calculators.compiled import prepare
from mlip.data.graphs import build_graph
from mlip.data.structures import Structure
from mlip.errors import ConfigError
from mlip.models import MaceConfig, NequIPConfig, Potential, build_model, parse_model_config, with_backend
from mlip.models.compiled import why_not_compiled
from mlip_kernels.inference.tally import Tally, tally

AS_IT_IS, COMPILED = "as it is", "compiled"
# Runs from whose medians the time of each phase of a program is taken.
_PHASE_REPEATS = 15


@dataclass(frozen=True)
class ModelRecord:
    """A measurement of a model on a box of water, or why there is none.

    Attributes:
        contender: Backend of the tensor products with its options.
        measured: `forces`: energy and forces of the bare model, its graph given. `ase`: a simulation step of the ASE
            calculator, the neighbour list included. `training`: a loss on energy and forces and the gradient of all
            weights, the graph given.
        reason: Why it was not measured; "" if it was.
        function: Coupling and weights of the model's products; contenders that differ in it are different functions.
        parameters: Number of weights.
        edges: Pairs within the cutoff, each counted in both directions.
        mean_ms: Of all rounds; it holds the steps that build a neighbour list, which the median leaves out.
        us_per_atom: From the median.
        ns_per_day: Of `ase`, from the mean, at 0.5 fs a step.
        atoms_per_gib: Of `ase`, by the growth of the process's memory in the first calculation, neighbour list
            included.
        gflops: 1e9 additions and multiplications a second of a compiled model, see `mlip_kernels.inference.tally`.
        peak_fraction: The same over the measured peak of the machine's vector units.
        time_shares: Of each phase of a compiled model, in its `forces`.
        flop_shares: Of each operation of a compiled model, in its additions and multiplications.
    """

    contender: str
    measured: str
    reason: str = ""
    function: str = ""
    dtype: str = ""
    parameters: int | None = None
    atoms: int | None = None
    edges: int | None = None
    median_ms: float | None = None
    p20_ms: float | None = None
    p80_ms: float | None = None
    mean_ms: float | None = None
    rounds: int | None = None
    us_per_atom: float | None = None
    ns_per_day: float | None = None
    atoms_per_gib: float | None = None
    gflops: float | None = None
    peak_fraction: float | None = None
    time_shares: dict[str, float] | None = None
    flop_shares: dict[str, float] | None = None
    construction_s: float | None = None


@dataclass(frozen=True)
class ModelContender:
    """A model that is ready to run, and what is known of it before it is timed.

    Attributes:
        potential: The model, which may be trained.
        calculator: Of a copy of it, compiled or not.
        record: What its records have in common.
    """

    potential: Potential
    calculator: MLIPCalculator
    record: ModelRecord


def build_models(
    base: Potential | MaceConfig | NequIPConfig, requests: Sequence[Request], dtype: str, device: torch.device
) -> tuple[list[ModelContender], list[ModelRecord]]:
    """The base as it is, compiled, and with each of the backends; also records of those that cannot be built.

    A model keeps its weights and changes the backend only, so that the function stays the same. A configuration gets
    the backend with its own coupling and weights where the request does not name others.
    """
    models: list[ModelContender] = []
    refused: list[ModelRecord] = []
    for label, request in [(AS_IT_IS, None), (COMPILED, None), *((request.label, request) for request in requests)]:
        record = ModelRecord(label, "", dtype=dtype)
        start = time.perf_counter()
        try:
            potential = _build(base, request, dtype).to(device)
            calculator = MLIPCalculator(potential, device=device, dtype=dtype, compile=label == COMPILED)
            if label == COMPILED and calculator.compiled is None:
                raise ConfigError(why_not_compiled(potential) or "no radial table is fine enough for the model.")
        except Exception as error:  # One contender's defect must not cost the others their results.
            refused.append(replace(record, reason=failure(error)))
            continue
        record = replace(
            record,
            function=_function(potential),
            parameters=sum(parameter.numel() for parameter in potential.parameters()),
            construction_s=time.perf_counter() - start,
        )
        models.append(ModelContender(potential, calculator, record))
    return models, refused


def run_models(
    models: Sequence[ModelContender],
    atoms: Sequence[int],
    device: torch.device,
    seconds: float,
    call_limit: float,
    peak_flops: float | None = None,
) -> Iterator[list[ModelRecord]]:
    """Time all models and measurements in turns; yields the records of one size after another.

    Args:
        models: From `build_models`.
        atoms: Sizes of the boxes.
        device: Where the models are.
        seconds: For each model and measurement, unless the fewest rounds take longer.
        call_limit: Seconds; what takes longer in one call is left out.
        peak_flops: Additions and multiplications a second that the machine reaches at best, if that is known.
    """
    stopwatch = Stopwatch.of(device)
    for size in atoms:
        steps: dict[ModelRecord, Step] = {}
        owners: dict[ModelRecord, ModelContender] = {}
        failed: list[ModelRecord] = []
        for model in models:
            box = water_box(size, model.potential.elements)
            edges = build_graph(Structure.from_atoms(box), model.potential.cutoff).edge_index.shape[1]
            for measured, maker in _measurements(model).items():
                record = replace(model.record, measured=measured, atoms=len(box), edges=edges)
                try:
                    if measured == "ase":
                        record = replace(record, atoms_per_gib=_atoms_per_gib(model.calculator, box))
                    step = maker(model, box.copy())
                    taken = stopwatch.warm_up(step, call_limit)
                except Exception as error:  # As above.
                    failed.append(replace(record, reason=failure(error)))
                    continue
                if taken > call_limit:
                    reason = f"one call took {taken:.1f} s, more than {call_limit:g} s"
                    failed.append(replace(record, reason=reason))
                    continue
                steps[record] = step
                owners[record] = model
        times = interleave(steps, seconds * len(steps), stopwatch) if steps else {}
        timed = [
            _counted(_timed(record, found), owners[record].calculator, peak_flops) for record, found in times.items()
        ]
        yield [*timed, *failed]


def _timed(record: ModelRecord, times: Statistics) -> ModelRecord:
    assert record.atoms is not None
    return replace(
        record,
        median_ms=1e3 * times.median,
        p20_ms=1e3 * times.p20,
        p80_ms=1e3 * times.p80,
        mean_ms=1e3 * times.mean,
        rounds=times.rounds,
        us_per_atom=1e6 * times.median / record.atoms,
        ns_per_day=86400.0 / times.mean * TIMESTEP * 1e-6 if record.measured == "ase" else None,
    )


def _counted(record: ModelRecord, calculator: MLIPCalculator, peak_flops: float | None) -> ModelRecord:
    """With the arithmetic of a compiled model, and how time and arithmetic are shared."""
    compiled = calculator.compiled
    if compiled is None:
        return record
    atoms, edges, median = record.atoms, record.edges, record.median_ms
    assert atoms is not None
    assert edges is not None
    assert median is not None
    counted = tally(compiled.program.network)
    flops_a_second = counted.total(atoms, edges) / (1e-3 * median)
    record = replace(
        record,
        gflops=flops_a_second / 1e9,
        peak_fraction=None if peak_flops is None else flops_a_second / peak_flops,
    )
    if record.measured != "forces":
        return record
    given = prepare(compiled, Structure.from_atoms(water_box(atoms, calculator.model.elements)))
    phases = compiled.program.phase_seconds(given.positions, given.elements, given.pairs, _PHASE_REPEATS)
    return replace(record, time_shares=_shares(phases), flop_shares=_flop_shares(counted, atoms, edges))


def _flop_shares(counted: Tally, atoms: int, edges: int) -> dict[str, float]:
    return _shares({name: float(flops.total(atoms, edges)) for name, flops in counted.operations.items()})


def _shares(parts: dict[str, float]) -> dict[str, float]:
    total = sum(parts.values())
    return {name: part / total if total else 0.0 for name, part in parts.items()}


def _atoms_per_gib(calculator: MLIPCalculator, box: Atoms) -> float | None:
    """Atoms whose first calculation fits one GiB; None if the memory did not grow, or the system does not tell."""
    small = water_box(3, calculator.model.elements)
    small.calc = calculator
    small.get_forces()  # What is loaded at the first calculation at all is no memory of the atoms.
    large = box.copy()
    large.calc = calculator
    growth = resident_growth(large.get_forces)
    return len(box) * 2**30 / growth if growth else None


def _build(base: Potential | MaceConfig | NequIPConfig, request: Request | None, dtype: str) -> Potential:
    """Raises ConfigError where the backend cannot compute the model's products."""
    if isinstance(base, Potential):
        if request is None:
            return base
        if request.options:
            raise ConfigError(
                f"'{request.label}' has options, which a model keeps as they are: name the backend alone."
            )
        swapped = with_backend(base, request.name)
        config, before = swapped.config, base.config
    else:
        if request is None:
            return build_model(base, dtype)
        product = {"backend": request.name, **request.options}
        config, before = parse_model_config(base.model_dump() | {"tensor_product": product}), base
        swapped = build_model(config, dtype)
    if config == before:
        raise ConfigError(f"'{request.label}' is the model as it is, which is timed already.")
    return swapped


def _function(potential: Potential) -> str:
    products = potential.config.tensor_product.model_dump()
    return "; ".join(
        f"{part}: {each['coupling']}, {each['weights']}" + (f", rank {each['rank']}" if each["rank"] else "")
        for part, each in products.items()
    )


def _measurements(model: ModelContender) -> dict[str, Callable[[ModelContender, Atoms], Step]]:
    """Programs are not trained."""
    left_out = () if model.calculator.compiled is None else ("training",)
    return {name: maker for name, maker in MEASUREMENTS.items() if name not in left_out}


# How each measurement is set up for a model and a box.
MEASUREMENTS: dict[str, Callable[[ModelContender, Atoms], Step]] = {
    "forces": lambda model, box: forces_step(model.calculator, box),
    "ase": lambda model, box: ase_step(model.calculator, box),
    "training": lambda model, box: training_step(model.potential, box),
}
