"""Tables of the benchmark of whole models."""

from collections.abc import Sequence
from string import ascii_lowercase
from typing import TYPE_CHECKING

from mlip.benchmarks.model import ModelRecord
from mlip.benchmarks.records import Environment
from mlip.benchmarks.tables import machine_sentence, markdown_table, number_cell, time_cell

if TYPE_CHECKING:
    from rich.table import Table

_TITLES = ["atoms", "edges", "backend", "forces ms", "µs/atom", "ASE ms", "ns/day", "training ms", "parameters"]

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
    skipped = [record for record in records if record.reason]
    if skipped:
        lines += ["## Skipped", ""]
        lines += [f"- {' '.join(_place(record))}: {record.reason}" for record in skipped]
        lines += [""]
    return "\n".join(lines)


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
    for title in _TITLES[:-1]:
        text = title == "backend"
        table.add_column(title, justify="left" if text else "right", overflow="fold", no_wrap=not text)
    table.add_column("")
    for passes in grouped:
        letter = ascii_lowercase[functions.index(_any(passes).function) % 26]
        table.add_row(*_cells(passes, spread=False)[:-1], letter)
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

    common = _any(passes)
    return [
        str(common.atoms),
        str(common.edges),
        common.contender,
        milliseconds("forces"),
        number_cell(passes.get("forces", _NOTHING).us_per_atom, ".3g"),
        milliseconds("ase"),
        number_cell(passes.get("ase", _NOTHING).ns_per_day, ".3g"),
        milliseconds("training"),
        number_cell(common.parameters, ",d"),
    ]


def _any(passes: dict[str, ModelRecord]) -> ModelRecord:
    return next(iter(passes.values()))


def _place(record: ModelRecord) -> list[str]:
    size = [] if record.atoms is None else [f"with {record.atoms} atoms"]
    return [record.contender, *([f"({record.measured})"] if record.measured else []), *size]
