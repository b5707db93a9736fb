"""`mlip bench electrostatics`: error against time of the methods for long-range electrostatics."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlip.cli.bench_options import Output, Quick, kept_when_interrupted, print_skipped
from mlip.cli.console import console, progress

if TYPE_CHECKING:
    from mlip.benchmarks.electrostatics import ElectrostaticsPlan, ElectrostaticsRecord


def electrostatics(
    charges: Annotated[
        str | None,
        typer.Option(help="Numbers of charges.", show_default="100,300,1000,2000,8000,30000, quick: 100,300"),
    ] = None,
    tolerances: Annotated[
        str | None,
        typer.Option(help="Relative errors of forces.", show_default="1e-2,1e-4,1e-6,1e-8, quick: 1e-4,1e-6"),
    ] = None,
    boundaries: Annotated[str, typer.Option(help="Of open and periodic.")] = "open,periodic",
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    memory_limit: Annotated[float, typer.Option(help="GiB; what would take more is left out.")] = 4.0,
    time_limit: Annotated[float, typer.Option(help="Seconds of a call; what would take longer is left out.")] = 10.0,
    quick: Quick = False,
    output: Output = Path("runs/bench/electrostatics"),
) -> None:
    """Time energy and forces of charges by all methods, the plain direct sum, and torch-pme where it is installed."""
    from mlip.benchmarks.electrostatics import ElectrostaticsPlan
    from mlip.benchmarks.electrostatics_systems import BOUNDARIES
    from mlip.benchmarks.problems import parse_names
    from mlip.benchmarks.timing import torch_threads
    from mlip.errors import ConfigError

    for name, limit in (("memory", memory_limit), ("time", time_limit)):
        if not limit > 0:
            raise ConfigError(f"the {name} limit is {limit}: give a positive number.")
    plan = ElectrostaticsPlan(
        boundaries=parse_names("boundary", boundaries, BOUNDARIES),
        charges=_parse_counts(charges or ("100,300" if quick else "100,300,1000,2000,8000,30000")),
        tolerances=_parse_tolerances(tolerances or ("1e-4,1e-6" if quick else "1e-2,1e-4,1e-6,1e-8")),
        seconds=0.05 if quick else 1.0,
        call_limit=min(time_limit, 0.5) if quick else time_limit,
        memory=memory_limit * 2**30,
        rank_charges=300 if quick else 2000,
    )
    with torch_threads(threads):
        _measure(plan, output)


def _measure(plan: "ElectrostaticsPlan", output: Path) -> None:
    import torch

    from mlip.benchmarks import electrostatics_torch_pme
    from mlip.benchmarks.electrostatics import run_electrostatics, run_ranks
    from mlip.benchmarks.electrostatics_plots import draw_electrostatics
    from mlip.benchmarks.electrostatics_tables import electrostatics_markdown, electrostatics_tables, summary
    from mlip.benchmarks.records import Environment, write_csv, write_json
    from mlip.data.files import written_beside
    from mlip.errors import ConfigError

    environment = Environment.now(torch.device("cpu"))
    records: list[ElectrostaticsRecord] = []
    with kept_when_interrupted(output, records), progress("Measuring", plan.problems + 1) as bar:
        bar.note("ranks")
        ranks = list(run_ranks(plan))
        write_json(output / "ranks.json", environment, ranks)
        write_csv(output / "ranks.csv", environment, ranks)
        bar.advance()
        for found in run_electrostatics(plan, bar.note):
            records += found
            write_json(output / "results.json", environment, records)
            write_csv(output / "results.csv", environment, records)
            with written_beside(output / "table.md") as partial:
                partial.write_text(electrostatics_markdown(environment, records, ranks))
            bar.advance()
    if all(record.reason for record in records):
        raise ConfigError(f"nothing could be measured: {records[0].reason}")
    for table in electrostatics_tables(records):
        console.print(table)
    if "periodic" in plan.boundaries and not electrostatics_torch_pme.installed():
        console.print("torch-pme is not installed: nothing to compare with in periodic boxes.", soft_wrap=True)
    console.print(summary(records), soft_wrap=True)
    figures = draw_electrostatics(output, records, ranks)
    print_skipped(sum(1 for record in records if record.reason))
    names = ", ".join(
        ["results.json", "results.csv", "ranks.json", "ranks.csv", "table.md", *(f.name for f in figures)]
    )
    console.print(f"Written to {output}: {names}", soft_wrap=True)


def _parse_counts(text: str) -> list[int]:
    from mlip.errors import ConfigError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 1 for part in parts):
        raise ConfigError(f"the numbers of charges are '{text}': write a list such as 100,1000, of at least 2.")
    return [int(part) for part in parts]


def _parse_tolerances(text: str) -> list[float]:
    from mlip.errors import ConfigError

    try:
        tolerances = [float(part) for part in text.split(",")]
    except ValueError:
        tolerances = []
    # References are converged to some 1e-11.
    if not tolerances or not all(1e-10 <= each < 1e-1 for each in tolerances):
        raise ConfigError(f"the tolerances are '{text}': write a list such as 1e-4,1e-6, from 1e-10 to 0.1.")
    return tolerances
