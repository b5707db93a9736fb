"""`mlip bench`: tensor products against each other, models over them, kernels, electrostatics, advice on a backend."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mlip.cli.bench_electrostatics import electrostatics
from mlip.cli.bench_kernels import kernels
from mlip.cli.bench_model import model
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
    from mlip.benchmarks.products import Plan
    from mlip.benchmarks.records import Record

app = typer.Typer(
    name="bench",
    help="Time tensor products, models over them, kernels and electrostatics, and advise on a backend.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.command("electrostatics")(electrostatics)
app.command("kernels")(kernels)
app.command("model")(model)

Weights = Annotated[
    Literal["none", "per_path", "per_degree", "shared"], typer.Option(help="Structure of the weights, given per row.")
]
Mode = Annotated[
    Literal["elementwise", "channelwise"], typer.Option(help="Whether y has as many channels as x, or one for all.")
]


@app.command("tensor-products")
def tensor_products(
    degrees: Annotated[
        str | None, typer.Option(help="From 1 to 10, such as 1-4 or 1,2,5.", show_default="1-4, quick: 1-3")
    ] = None,
    settings: Annotated[
        str, typer.Option(help="siso: L x L to L; simo: to 0..2L; mimo: 0..L; network: L x L to L, y with one channel.")
    ] = "siso,simo,mimo,network",
    couplings: Annotated[
        str, typer.Option(help="Of clebsch_gordan, gaunt, bracket, gaunt+bracket, matrix.")
    ] = "clebsch_gordan,gaunt,matrix",
    backends: Backends = None,
    passes: Annotated[str, typer.Option(help="What is timed.")] = "forward,backward,double_backward,full",
    weights: Weights = "none",
    mode: Mode = "elementwise",
    channels: Annotated[int, typer.Option(help="Of x and of the result.")] = 16,
    batch: Annotated[int, typer.Option(help="Rows.")] = 1000,
    dtype: Dtype = "float32",
    device: Device = None,
    threads: Threads = None,
    memory_limit: Annotated[float, typer.Option(help="GiB; what would take more is skipped.")] = 4.0,
    quick: Quick = False,
    output: Output = Path("runs/bench/tensor_products"),
) -> None:
    """Time backends and other packages' products on the same paths, weights and outputs."""
    import torch

    from mlip.benchmarks.contenders import default_requests, parse_requests
    from mlip.benchmarks.passes import PASSES
    from mlip.benchmarks.problems import SETTINGS, parse_degrees, parse_names
    from mlip.benchmarks.products import Plan
    from mlip.benchmarks.timing import torch_threads
    from mlip.errors import ConfigError
    from mlip.tensor_products.couplings import COUPLINGS

    if not memory_limit > 0:
        raise ConfigError(f"the memory limit is {memory_limit} GiB: give a positive number.")
    chosen: dict[str, Any] = {
        "settings": parse_names("setting", settings, SETTINGS),
        "couplings": parse_names("coupling", couplings, COUPLINGS),
        "passes": parse_names("pass", passes, PASSES),
    }
    plan = Plan(
        **chosen,
        degrees=parse_degrees(("1-3" if quick else "1-4") if degrees is None else degrees),
        requests=default_requests() if backends is None else parse_requests(backends),
        weights=weights,
        mode=mode,
        channels=channels,
        batch=batch,
        dtype=getattr(torch, dtype),
        device=timed_device(device),
        memory_limit=memory_limit * 2**30,
        seconds=0.06 if quick else 1.0,
        call_limit=1.0 if quick else 20.0,
    )
    with torch_threads(threads):
        _measure_products(plan, output)


def _measure_products(plan: "Plan", output: Path) -> None:
    from mlip.benchmarks.plots import draw
    from mlip.benchmarks.products import run_plan
    from mlip.benchmarks.records import Environment, write_csv, write_json
    from mlip.benchmarks.roofline import measure_roofline
    from mlip.benchmarks.tables import console_tables, markdown
    from mlip.data.files import written_beside
    from mlip.errors import ConfigError

    roofline = measure_roofline(plan.device, plan.dtype)
    environment = Environment.now(plan.device, roofline)
    records: list[Record] = []
    with kept_when_interrupted(output, records), progress("Measuring", len(plan.settings) * len(plan.degrees)) as bar:
        for found in run_plan(plan, roofline):
            records += found
            write_json(output / "results.json", environment, records)
            write_csv(output / "results.csv", environment, records)
            with written_beside(output / "table.md") as partial:
                partial.write_text(markdown(environment, records))
            bar.advance()
    if all(record.reason for record in records):
        raise ConfigError(f"nothing could be measured: {records[0].reason}")
    for table in console_tables(records):
        console.print(table)
    figures = draw(output, records)
    print_skipped(sum(1 for record in records if record.reason))
    names = ", ".join(["results.json", "results.csv", "table.md", *(figure.name for figure in figures)])
    console.print(f"Written to {output}: {names}", soft_wrap=True)


@app.command("advise")
def advise(
    irreps: Annotated[str, typer.Option(help="Of the features, such as 64x0e+64x1o.", show_default=False)],
    edges: Annotated[int, typer.Option(help="Pairs of neighbours in a call.", show_default=False)],
    l_max: Annotated[int, typer.Option(help="Highest degree of the harmonics and of the result.")] = 3,
    couplings: Annotated[
        str, typer.Option("--coupling", help="Of clebsch_gordan, gaunt, bracket, gaunt+bracket, matrix.")
    ] = "clebsch_gordan,gaunt",
    weights: Annotated[str, typer.Option(help="Of none, per_path, per_degree, shared.")] = "per_path,per_degree",
    dtype: Dtype = "float32",
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Name the fastest exact backend for a convolution on this machine."""
    import torch
    from rich import box
    from rich.table import Table

    from mlip.benchmarks import advice
    from mlip.benchmarks.problems import parse_names
    from mlip.benchmarks.timing import torch_threads
    from mlip.tensor_products.couplings import COUPLINGS
    from mlip.tensor_products.spec import WEIGHT_STRUCTURES

    convolution = advice.make_convolution(irreps, l_max, edges)
    chosen: tuple[Any, Any] = (
        parse_names("coupling", couplings, COUPLINGS),
        parse_names("weight structure", weights, WEIGHT_STRUCTURES),
    )
    target = timed_device(device)
    table = Table("coupling", "weights", "paths", "backend", "ms", "", box=box.SIMPLE_HEAD)
    found = []
    with torch_threads(threads), progress("Measuring", len(chosen[0]) * len(chosen[1])) as bar:
        for each in advice.advise(convolution, *chosen, getattr(torch, dtype), target):
            found.append(each)
            for name, seconds in each.seconds.items():
                mark = "fastest" if name == next(iter(each.seconds)) else ""
                table.add_row(each.coupling, each.weights, str(each.paths), name, f"{1e3 * seconds:.3g}", mark)
            bar.advance()
    console.out(
        f"{convolution.irreps}, harmonics and result up to degree {l_max}, {edges} edges, forward and backward:"
    )
    console.print(table)
    for each in found:
        function = f"coupling {each.coupling}, weights {each.weights}"
        fastest = next(iter(each.seconds), None)
        console.print(f"{function}: {fastest or 'no backend computes it exactly'}", soft_wrap=True)
    console.out("Couplings and weights are different functions: a trained model keeps its own.")
