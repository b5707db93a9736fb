"""The benchmark of whole models: forces, simulation steps and training steps over tensor products and sizes."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ase import Atoms, units

from mlip.benchmarks.contenders import Request
from mlip.benchmarks.records import failure
from mlip.benchmarks.timing import Statistics, Step, Stopwatch, interleave
from mlip.benchmarks.water import water_box
from mlip.calculators import MLIPCalculator
from mlip.calculators.loading import load_for_inference
from mlip.data.graphs import build_graph, collate_graphs
from mlip.data.structures import Structure
from mlip.errors import ConfigError
from mlip.models import MaceConfig, NequIPConfig, Potential, build_model, parse_model_config, with_backend
from mlip.training.losses import error_sums, weighted_loss

TIMESTEP, TEMPERATURE = 0.5, 300.0  # fs, K
AS_IT_IS = "as it is"
# A simulation turns round after so many steps, before the molecules have flown apart.
_STEPS_ONE_WAY = 25


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
    construction_s: float | None = None


@dataclass(frozen=True)
class ModelContender:
    """A model that is ready to run, and what is known of it before it is timed."""

    potential: Potential
    record: ModelRecord


def build_models(
    base: Potential | MaceConfig | NequIPConfig, requests: Sequence[Request], dtype: str, device: torch.device
) -> tuple[list[ModelContender], list[ModelRecord]]:
    """The base as it is, and with each of the backends; also records of those that cannot be built.

    A model keeps its weights and changes the backend only, so that the function stays the same. A configuration gets
    the backend with its own coupling and weights where the request does not name others.
    """
    models: list[ModelContender] = []
    refused: list[ModelRecord] = []
    for request in [None, *requests]:
        label = AS_IT_IS if request is None else request.label
        record = ModelRecord(label, "", dtype=dtype)
        start = time.perf_counter()
        try:
            potential = _build(base, request, dtype).to(device)
        except Exception as error:  # One contender's defect must not cost the others their results.
            refused.append(replace(record, reason=failure(error)))
            continue
        record = replace(
            record,
            function=_function(potential),
            parameters=sum(parameter.numel() for parameter in potential.parameters()),
            construction_s=time.perf_counter() - start,
        )
        models.append(ModelContender(potential, record))
    return models, refused


def run_models(
    models: Sequence[ModelContender], atoms: Sequence[int], device: torch.device, seconds: float, call_limit: float
) -> Iterator[list[ModelRecord]]:
    """Time all models and measurements in turns; yields the records of one size after another.

    Args:
        models: From `build_models`.
        atoms: Sizes of the boxes.
        device: Where the models are.
        seconds: For each model and measurement, unless the fewest rounds take longer.
        call_limit: Seconds; what takes longer in one call is left out.
    """
    stopwatch = Stopwatch.of(device)
    for size in atoms:
        steps: dict[ModelRecord, Step] = {}
        failed: list[ModelRecord] = []
        for model in models:
            box = water_box(size, model.potential.elements)
            edges = build_graph(Structure.from_atoms(box), model.potential.cutoff).edge_index.shape[1]
            for measured, maker in MEASUREMENTS.items():
                record = replace(model.record, measured=measured, atoms=len(box), edges=edges)
                try:
                    step = maker(model.potential, box.copy())
                    taken = stopwatch.warm_up(step, call_limit)
                except Exception as error:  # As above.
                    failed.append(replace(record, reason=failure(error)))
                    continue
                if taken > call_limit:
                    reason = f"one call took {taken:.1f} s, more than {call_limit:g} s"
                    failed.append(replace(record, reason=reason))
                    continue
                steps[record] = step
        times = interleave(steps, seconds * len(steps), stopwatch) if steps else {}
        yield [*(_timed(record, found) for record, found in times.items()), *failed]


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


def _forces_step(potential: Potential, box: Atoms) -> Step:
    model = load_for_inference(potential, potential.device, str(potential.dtype).removeprefix("torch."))
    graph = build_graph(Structure.from_atoms(box), model.cutoff).to(model.device)
    return lambda: lambda: model(graph, forces=True)


def _ase_step(potential: Potential, box: Atoms) -> Step:
    """Atoms fly on at thermal speed, so that neighbour lists are built as often as in a simulation."""
    calculator = MLIPCalculator(potential, device=potential.device, dtype=str(potential.dtype).removeprefix("torch."))
    box.calc = calculator
    spread = np.sqrt(units.kB * TEMPERATURE / box.get_masses())[:, None]
    flight = TIMESTEP * units.fs * spread * np.random.default_rng(0).normal(size=(len(box), 3))
    moves = 0

    def prepare() -> Callable[[], Any]:
        nonlocal moves
        box.positions += flight if moves // _STEPS_ONE_WAY % 2 == 0 else -flight
        moves += 1
        return box.get_forces

    return prepare


def _training_step(potential: Potential, box: Atoms) -> Step:
    labelled = replace(Structure.from_atoms(box), energy=0.0, forces=np.zeros((len(box), 3)))
    batch = collate_graphs([build_graph(labelled, potential.cutoff)]).to(potential.device)
    weights = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64, device=potential.device)

    def step() -> None:
        potential.zero_grad()
        sums = error_sums(potential(batch, forces=True), batch, "mse", 1.0)
        weighted_loss(sums.loss, sums.components, weights).backward()

    def prepare() -> Callable[[], Any]:
        potential.train().requires_grad_()
        return step

    return prepare


# How each measurement is set up for a model and a box.
MEASUREMENTS: dict[str, Callable[[Potential, Atoms], Step]] = {
    "forces": _forces_step,
    "ase": _ase_step,
    "training": _training_step,
}
