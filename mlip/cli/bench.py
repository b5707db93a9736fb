"""`mlip bench`: time tensor products against each other, whole models over them, and advise on a backend."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mlip.cli.console import console, progress
from mlip.cli.options import Device, Dtype

if TYPE_CHECKING:
    from mlip.benchmarks.products import Plan

app = typer.Typer(
    name="bench",
    help="Time tensor products, models over their tensor products, and advise on a backend.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Threads = Annotated[int | None, typer.Option(min=1, help="Threads of torch; by default as many as it likes.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder of the results; replaced if they exist.")]
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
    ] = "clebsch_gordan,gaunt",
    backends: Annotated[
        str | None,
        typer.Option(
            help="Such as clebsch_gordan,cp:rank=31,e3nn; options after colons.", show_default="all that are installed"
        ),
    ] = None,
    passes: Annotated[str, typer.Option(help="What is timed.")] = "forward,backward,double_backward,full",
    weights: Weights = "none",
    mode: Mode = "elementwise",
    channels: Annotated[int, typer.Option(help="Of x and of the result.")] = 16,
    batch: Annotated[int, typer.Option(help="Rows.")] = 1000,
    dtype: Dtype = "float32",
    device: Device = None,
    threads: Threads = None,
    memory_limit: Annotated[float, typer.Option(help="GiB; what would take more is skipped.")] = 4.0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer degrees and shorter measurements: two minutes.")
    ] = False,
    output: Output = Path("runs/bench/tensor_products"),
) -> None:
    """Time backends and other packages' products on the same paths, weights and outputs."""
    import torch

    from mlip.benchmarks.contenders import default_requests, parse_requests
    from mlip.benchmarks.passes import PASSES
    from mlip.benchmarks.problems import SETTINGS, parse_degrees, parse_names
    from mlip.benchmarks.products import Plan
    from mlip.benchmarks.timing import torch_threads
    from mlip.calculators.loading import choose_device
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
        degrees=parse_degrees(degrees or ("1-3" if quick else "1-4")),
        requests=parse_requests(backends) if backends else default_requests(),
        weights=weights,
        mode=mode,
        channels=channels,
        batch=batch,
        dtype=getattr(torch, dtype),
        device=choose_device(device),
        memory_limit=memory_limit * 2**30,
        seconds=0.06 if quick else 1.0,
        call_limit=1.0 if quick else 20.0,
    )
    with torch_threads(threads):
        _measure_products(plan, output)


def _measure_products(plan: "Plan", output: Path) -> None:
    from mlip.benchmarks.plots import draw
    from mlip.benchmarks.products import run_plan
    from mlip.benchmarks.records import Environment, Record, write_csv, write_json
    from mlip.benchmarks.roofline import measure_roofline
    from mlip.benchmarks.tables import console_tables, markdown
    from mlip.data.files import written_beside
    from mlip.errors import ConfigError

    roofline = measure_roofline(plan.device, plan.dtype)
    environment = Environment.now(plan.device, roofline)
    records: list[Record] = []
    try:
        with progress("Measuring", len(plan.settings) * len(plan.degrees)) as bar:
            for found in run_plan(plan, roofline):
                records += found
                write_json(output / "results.json", environment, records)
                write_csv(output / "results.csv", environment, records)
                with written_beside(output / "table.md") as partial:
                    partial.write_text(markdown(environment, records))
                bar.advance()
    except KeyboardInterrupt:
        if records:
            typer.echo(f"What was measured so far is in {output}.", err=True)
        raise
    if all(record.reason for record in records):
        raise ConfigError(f"nothing could be measured: {records[0].reason}")
    for table in console_tables(records):
        console.print(table)
    figures = draw(output, records)
    skipped = sum(1 for record in records if record.reason)
    if skipped:
        console.out(f"Skipped, for reasons in table.md: {skipped}")
    names = ", ".join(["results.json", "results.csv", "table.md", *(figure.name for figure in figures)])
    console.out(f"Written to {output}: {names}")
