"""Tables of the benchmark of whole models."""

from collections.abc import Sequence
from string import ascii_lowercase
from typing import TYPE_CHECKING

from mlip.benchmarks.model import ModelRecord
from mlip.benchmarks.records import Environment
from mlip.benchmarks.tables import machine_sentence, markdown_table, number_cell, time_cell

if TYPE_CHECKING:
    from rich.table import Table

_TITLES = [
    *["atoms", "edges", "backend", "forces ms", "ASE ms", "µs/atom", "ns/day", "of peak", "atoms/GiB", "training ms"],
    "parameters",
]

_NOTHING = ModelRecord("", "")


def model_markdown(environment: Environment, records: Sequence[ModelRecord]) -> str:
    """The whole report: machine, times, what was skipped and why."""
    lines = [
        "# Models",
        "",
        machine_sentence(environment),
        "Boxes of water, " + records[0].dtype + ". Times are medians",
    ]
    lines[-1] += " with the 20th and 80th percentile; docs/benchmarks.md explains the columns."
    cells = [[*_cells(passes, spread=True), _any(passes).function] for passes in _grouped(records)]
    text = [title == "backend" for title in _TITLES]
    lines += ["", *markdown_table([*_TITLES, "function"], cells, [*text, True]), ""]
    for record in records:
        lines += _share_lines(record)
    skipped = [record for record in records if record.reason]
    if skipped:
        lines += ["## Skipped", ""]
        lines += [f"- {' '.join(_place(record))}: {record.reason}" for record in skipped]
        lines += [""]
    return "\n".join(lines)


def share_tables(records: Sequence[ModelRecord]) -> "list[Table]":
    """Tables for the console: what takes the time of compiled models, and what their arithmetic."""
    from rich import box
    from rich.table import Table

    tables = []
    for record in records:
        for title, shares in _shares(record).items():
            table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_header=False)
            table.add_column()
            table.add_column(justify="right")
            for name, share in shares.items():
                table.add_row(name, f"{share:.1%}")
            tables.append(table)
    return tables


def _share_lines(record: ModelRecord) -> list[str]:
    lines: list[str] = []
    for title, shares in _shares(record).items():
        cells = [[name, f"{share:.1%}"] for name, share in shares.items()]
        lines += [f"## {title}", "", *markdown_table(["", "share"], cells, [True, False]), ""]
    return lines


def _shares(record: ModelRecord) -> dict[str, dict[str, float]]:
    """Titles and shares of what was measured of a program."""
    size = f"{record.contender}, {record.atoms} atoms"
    named = {f"Time of {size}": record.time_shares, f"Arithmetic of {size}": record.flop_shares}
    return {title: shares for title, shares in named.items() if shares is not None}


def model_table(records: Sequence[ModelRecord]) -> "Table":
    """The table for the console; letters name the function that a model computes."""
    from rich import box
    from rich.table import Table

    grouped = _grouped(records)
    functions = list(dict.fromkeys(_any(passes).function for passes in grouped))
    table = Table(
        caption="\n".join(f"{letter}: {each}" for letter, each in zip(ascii_lowercase, functions, strict=False)),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    # Numbers are narrower than what they are, and edges follow from atoms.
    table.add_column("atoms", justify="right", no_wrap=True)
    table.add_column("backend", min_width=9, overflow="fold")
    for title in _TITLES[3:-1]:
        table.add_column(title.replace(" ", "\n").replace("/", "\n/"), justify="right", no_wrap=True)
    table.add_column("")
    for passes in grouped:
        letter = ascii_lowercase[functions.index(_any(passes).function) % 26]
        atoms, _, backend, *numbers, _ = _cells(passes, spread=False)
        table.add_row(atoms, backend, *numbers, letter)
    return table


def _grouped(records: Sequence[ModelRecord]) -> list[dict[str, ModelRecord]]:
    """The measured records of each size and contender, by what was measured."""
    grouped: dict[tuple[int | None, str], dict[str, ModelRecord]] = {}
    for record in records:
        if record.median_ms is not None:
            grouped.setdefault((record.atoms, record.contender), {})[record.measured] = record
    return list(grouped.values())


def _cells(passes: dict[str, ModelRecord], spread: bool) -> list[str]:
    def milliseconds(measured: str) -> str:
        record = passes.get(measured, _NOTHING)
        if spread:
            return time_cell(record.median_ms, record.p20_ms, record.p80_ms)
        return number_cell(record.median_ms, ".3g")

    common, simulated = _any(passes), passes.get("ase", _NOTHING)
    return [
        str(common.atoms),
        str(common.edges),
        common.contender,
        milliseconds("forces"),
        milliseconds("ase"),
        number_cell(simulated.us_per_atom, ".3g"),
        number_cell(simulated.ns_per_day, ".3g"),
        number_cell(simulated.peak_fraction, ".0%"),
        number_cell(simulated.atoms_per_gib, ",.0f"),
        milliseconds("training"),
        number_cell(common.parameters, ",d"),
    ]


def _any(passes: dict[str, ModelRecord]) -> ModelRecord:
    return next(iter(passes.values()))


def _place(record: ModelRecord) -> list[str]:
    size = [] if record.atoms is None else [f"with {record.atoms} atoms"]
    return [record.contender, *([f"({record.measured})"] if record.measured else []), *size]
