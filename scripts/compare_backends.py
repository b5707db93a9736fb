"""Trains a model with each tensor product of configs/backends, and tabulates errors and time.

    python scripts/compare_backends.py sample cp matrix        # the quickstart's data, schedule as configured
    python scripts/compare_backends.py acac cp matrix --minutes 15
    python scripts/compare_backends.py table

On acetylacetone the model and everything else is that of configs/acac.yaml, the number of epochs what fits the minutes
at the speed of a probe of three epochs. Give each process one thread (OMP_NUM_THREADS=1) and compare rows of one
machine.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from mlip.data.files import written_beside
from mlip.training.config import TrainingConfig, load_config
from mlip.training.run import Run, train

RESULTS = Path("runs/backends")
CONFIGS = Path("configs/backends")
_PROBE_EPOCHS = 3


def configuration(data: str, name: str) -> TrainingConfig:
    """The run of one backend on the sample or on acetylacetone."""
    config = load_config(CONFIGS / f"{name}.yaml")
    if data == "sample":
        return config
    acac = load_config("configs/acac.yaml")
    model = acac.model.model_copy(update={"tensor_product": config.model.tensor_product})
    return acac.model_copy(update={"model": model})


def run(data: str, name: str, minutes: float | None, console: Console) -> dict[str, Any]:
    """Train once and give the errors on each test set, in meV and meV/Å, with the seconds of an epoch."""
    config = configuration(data, name)
    output = str(RESULTS / data / name)
    if minutes is not None:
        probe = config.model_copy(update={"epochs": _PROBE_EPOCHS, "output": output + "_probe"})
        seconds = _seconds(train(probe, overwrite=True, console=Console(quiet=True)))
        epochs = max(_PROBE_EPOCHS, int(60 * minutes / seconds))
        stages = [stage.model_copy(update={"epoch": max(1, epochs * 3 // 4)}) for stage in config.loss.stages]
        loss = config.loss.model_copy(update={"stages": stages})
        config = config.model_copy(update={"epochs": epochs, "patience": epochs, "loss": loss})
    started = time.perf_counter()
    done = train(config.model_copy(update={"output": output}), overwrite=True, console=console)
    assert done.report is not None
    products = config.model.tensor_product.model_dump()
    return {
        "data": data,
        "config": name,
        "products": products,
        "parameters": done.report.provenance["parameters"],
        "commit": done.report.provenance["commit"],
        "machine": done.report.provenance["machine"],
        "threads": done.report.provenance["threads"],
        "epochs": len(done.report.rows),
        "seconds_per_epoch": _seconds(done),
        "minutes": (time.perf_counter() - started) / 60,
        "errors": {
            test: {row.property: row.rmse for row in evaluation.errors.rows if row.kind == "all"}
            for test, evaluation in done.report.evaluations.items()
            if test != "validation"
        },
    }


def _seconds(done: Run) -> float:
    """Median of the seconds of an epoch, the first one, which warms up, left out."""
    assert done.report is not None
    return statistics.median(row["seconds"] for row in done.report.rows[1:])


def table(data: str) -> str:
    """All results of one data set as a Markdown table."""
    results = [json.loads(path.read_text()) for path in sorted((RESULTS / data).glob("*.json"))]
    if not results:
        return f"No results of {data} yet.\n"
    tests = list(results[0]["errors"])
    head = ["configs/backends/", "convolution", "contraction", "parameters", "epochs", "s per epoch", "minutes"]
    head += [f"{quantity}, {test}" for test in tests for quantity in ("energy meV/atom", "forces meV/Å")]
    lines = [head, ["---"] * len(head)]
    for each in results:
        products = [
            f"{product['coupling']}, {product['weights']}" + (f", rank {product['rank']}" if product["rank"] else "")
            for product in each["products"].values()
        ]
        numbers = [f"{each['parameters']:,}", str(each["epochs"]), f"{each['seconds_per_epoch']:.1f}"]
        errors = [f"{each['errors'][test][name]:.2f}" for test in tests for name in ("energy per atom", "forces")]
        lines.append([each["config"], *products, *numbers, f"{each['minutes']:.1f}", *errors])
    machine = f"{results[0]['machine']}, {results[0]['threads']} thread; commit {results[0]['commit']}"
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{machine}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=["sample", "acac", "table"])
    parser.add_argument("names", nargs="*", help="names in configs/backends; all where none is given")
    parser.add_argument("--minutes", type=float, help="train for so long instead of the configured epochs")
    arguments = parser.parse_args()
    if arguments.data == "table":
        print("\n".join(f"### {data}\n\n{table(data)}" for data in ("sample", "acac")))
        return
    for name in arguments.names or sorted(path.stem for path in CONFIGS.glob("*.yaml")):
        result = run(arguments.data, name, arguments.minutes, Console(highlight=False))
        with written_beside(RESULTS / arguments.data / f"{name}.json") as partial:
            partial.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
