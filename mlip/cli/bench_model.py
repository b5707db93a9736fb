"""`mlip bench model`: whole models, compiled and not, over their tensor products and sizes of systems."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlip.cli.bench_options import (
    Backends,
    Output,
    Quick,
    Threads,
    kept_when_interrupted,
    print_skipped,
    timed_device,
)
from mlip.cli.console import console, progress
from mlip.cli.options import Device, Dtype

if TYPE_CHECKING:
    import torch

    from mlip.benchmarks.model import ModelContender, ModelRecord
    from mlip.benchmarks.roofline import Roofline
    from mlip.models import MaceConfig, NequIPConfig, Potential


def model(
    model: Annotated[
        Path | None, typer.Argument(help="Model file (.mlip).", show_default="a MACE of default size")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration of mlip train, whose model is built anew.")] = None,
    backends: Backends = None,
    atoms: Annotated[
        str | None, typer.Option(help="Sizes of the boxes of water.", show_default="64,192, quick: 64")
    ] = None,
    dtype: Dtype = "float32",
    device: Device = None,
    threads: Threads = None,
    quick: Quick = False,
    output: Output = Path("runs/bench/model"),
) -> None:
    """Time whole models, compiled and not, over tensor products and sizes of systems."""
    from mlip.benchmarks.contenders import Request, parse_requests
    from mlip.benchmarks.model import build_models
    from mlip.benchmarks.timing import torch_threads
    from mlip.tensor_products import backends as known

    sizes = _parse_sizes(("64" if quick else "64,192") if atoms is None else atoms)
    target = timed_device(device)
    base = _base_model(model, config, dtype)
    requests = [Request(name) for name in known()] if backends is None else parse_requests(backends, {})
    with torch_threads(threads):
        contenders, refused = build_models(base, requests, dtype, target)
        _measure_models(contenders, refused, sizes, target, dtype, 0.1 if quick else 2.0, output)


def _parse_sizes(text: str) -> list[int]:
    from mlip.errors import ConfigError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"the numbers of atoms are '{text}': write a list such as 64,192.")
    return [int(part) for part in parts]


def _base_model(model: Path | None, config: Path | None, dtype: str) -> "Potential | MaceConfig | NequIPConfig":
    """What the contenders are made from; a configuration without elements gets those of water."""
    from mlip.errors import ConfigError
    from mlip.models import load, parse_model_config

    if model is not None and config is not None:
        raise ConfigError(f"both the model {model} and the configuration {config} are given: give one of the two.")
    if model is not None:
        return load(model, dtype=dtype)
    water = ["H", "O"]
    if config is None:
        return parse_model_config({"architecture": "mace", "elements": water})
    from mlip.training.config import load_config

    chosen = load_config(config).model
    return chosen if chosen.elements else chosen.model_copy(update={"elements": water})


def _measure_models(
    contenders: "list[ModelContender]",
    refused: "list[ModelRecord]",
    sizes: list[int],
    device: "torch.device",
    dtype: str,
    seconds: float,
    output: Path,
) -> None:
    from mlip.benchmarks.model import AS_IT_IS, run_models
    from mlip.benchmarks.model_tables import model_markdown, model_table, share_tables
    from mlip.benchmarks.records import Environment, write_csv, write_json
    from mlip.data.files import written_beside
    from mlip.errors import ConfigError

    roofline = _roofline(device, dtype)
    environment = Environment.now(device, roofline)
    peak = None if roofline is None else roofline.flops
    records = list(refused)
    with kept_when_interrupted(output, records), progress("Measuring", len(sizes)) as bar:
        for found in run_models(contenders, sizes, device, seconds, call_limit=60.0, peak_flops=peak):
            records += found
            write_json(output / "results.json", environment, records)
            write_csv(output / "results.csv", environment, records)
            with written_beside(output / "table.md") as partial:
                partial.write_text(model_markdown(environment, records))
            bar.advance()
    if all(record.reason for record in records):
        # That another backend does not suit says less than why the model itself does not run.
        own = next((record for record in records if record.contender == AS_IT_IS), records[0])
        raise ConfigError(f"nothing could be measured: {own.reason}")
    console.print(model_table(records))
    for table in share_tables(records):
        console.print(table)
    print_skipped(sum(1 for record in records if record.reason))
    console.print(f"Written to {output}: results.json, results.csv, table.md", soft_wrap=True)


def _roofline(device: "torch.device", dtype: str) -> "Roofline | None":
    """Of vector units and of a copy, where models are compiled."""
    import torch

    from mlip.benchmarks.fused_rate import fused_rate
    from mlip.benchmarks.roofline import Roofline, copy_bandwidth
    from mlip_kernels.backends import available_backend

    if device.type != "cpu" or available_backend("cpu") != "cpu":
        return None
    real = getattr(torch, dtype)
    return Roofline(fused_rate(real), copy_bandwidth(device, real))
