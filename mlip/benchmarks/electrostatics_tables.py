"""Tables of the benchmark of electrostatics."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlip.benchmarks.electrostatics import ElectrostaticsRecord, RankRecord
from mlip.benchmarks.records import Environment
from mlip.benchmarks.tables import machine_sentence, markdown_table, number_cell, time_cell

if TYPE_CHECKING:
    from rich.table import Table

_TITLES = ["N", "tolerance", "contender", "error", "ms", "with list ms", "ratio", "both lists", "our list", "of best"]
_MARKDOWN_TITLES = [*_TITLES, "eV/charge", "predicted ms", "parameters"]
_TEXT = [False, False, True, *[False] * 9, True]
_RANK_TITLES = ["", "N", "tolerance", "error", "degree", "rank", "Gaussians"]


def electrostatics_markdown(
    environment: Environment, records: Sequence[ElectrostaticsRecord], ranks: Sequence[RankRecord]
) -> str:
    """The whole report: machine, times, ranks, what was left out and why."""
    lines = ["# Electrostatics", "", machine_sentence(environment), "Energy and forces of random charges in float64."]
    lines += ["Times are medians with the 20th and 80th percentile; docs/benchmarks.md explains the columns.", ""]
    for boundary, chosen in _by_boundary(records):
        lines += [f"## {boundary.capitalize()}", ""]
        measured = [record for record in chosen if record.median_ms is not None]
        lines += [f"Errors are against: {', '.join(dict.fromkeys(record.reference for record in measured))}.", ""]
        lines += markdown_table(_MARKDOWN_TITLES, [_markdown_cells(record) for record in measured], _TEXT)
        left_out = [record for record in chosen if record.reason]
        if left_out:
            lines += ["", "Left out:", ""]
            lines += [f"- {r.contender}, N = {r.charges}, {_power(r.tolerance)}: {r.reason}" for r in left_out]
        lines += [""]
    if ranks:
        lines += ["## Ranks and degrees", ""]
        lines += [f"The separable form at a cutoff of {ranks[0].cutoff:g} Å.", ""]
        lines += markdown_table(_RANK_TITLES, [_rank_cells(each) for each in ranks], [True, *[False] * 6])
    return "\n".join([*lines, ""])


def electrostatics_tables(records: Sequence[ElectrostaticsRecord]) -> "Iterator[Table]":
    """A table for each boundary, for the console."""
    from rich import box
    from rich.table import Table

    for boundary, chosen in _by_boundary(records):
        table = Table(title=boundary, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
        for title in _TITLES:
            table.add_column(
                "\n".join(title.replace("tolerance", "toler- ance").split()),
                justify="left" if title == "contender" else "right",
                no_wrap=True,
            )
        before = None
        for record in chosen:
            problem = (record.charges, record.tolerance)
            if before not in (None, problem):
                table.add_section()
            before = problem
            table.add_row(*_cells(record))
        yield table


def summary(records: Sequence[ElectrostaticsRecord]) -> str:
    """How `auto` compares at worst, with our methods and with others."""
    lines = []
    for boundary, chosen in _by_boundary(records):
        autos = [record for record in chosen if record.contender == "auto"]
        slowest = max(autos, key=lambda record: record.of_best or 0.0, default=None)
        if slowest is not None and slowest.of_best is not None:
            lines.append(f"{boundary}: auto over the best of our methods, at most {slowest.of_best:.2f} {_at(slowest)}")
        compared = [record for record in autos if record.speedup is not None]
        least = min(compared, key=lambda record: record.speedup or 0.0, default=None)
        if least is not None:
            lines.append(f"{boundary}: the quickest other over auto, at least {least.speedup:.2f} {_at(least)}")
    return "\n".join(lines)


def _milliseconds(value: float | None) -> str:
    return number_cell(value, ".3g" if value is None or value < 999.5 else ".0f")


def _power(tolerance: float) -> str:
    """Such as 1e-4."""
    return np.format_float_scientific(tolerance, trim="-", exp_digits=1)


def _at(record: ElectrostaticsRecord) -> str:
    return f"(N = {record.charges}, tolerance {_power(record.tolerance)})."


def _by_boundary(
    records: Sequence[ElectrostaticsRecord],
) -> Iterator[tuple[str, list[ElectrostaticsRecord]]]:
    for boundary in dict.fromkeys(record.boundary for record in records):
        yield boundary, [record for record in records if record.boundary == boundary]


def _cells(record: ElectrostaticsRecord) -> list[str]:
    return [
        str(record.charges),
        _power(record.tolerance),
        record.contender,
        number_cell(record.force_error, ".1e") if not record.reason else "left out",
        _milliseconds(record.median_ms),
        _milliseconds(record.listed_ms),
        *_ratio_cells(record),
    ]


def _markdown_cells(record: ElectrostaticsRecord) -> list[str]:
    return [
        str(record.charges),
        _power(record.tolerance),
        record.contender,
        number_cell(record.force_error, ".1e"),
        time_cell(record.median_ms, record.p20_ms, record.p80_ms),
        time_cell(record.listed_ms, record.listed_p20_ms, record.listed_p80_ms),
        *_ratio_cells(record),
        number_cell(record.energy_error, ".1e"),
        number_cell(record.predicted_ms, ".3g"),
        record.parameters,
    ]


def _ratio_cells(record: ElectrostaticsRecord) -> list[str]:
    return [
        number_cell(record.speedup, ".2f"),
        number_cell(record.speedup_listed, ".2f"),
        number_cell(record.speedup_least, ".2f"),
        number_cell(record.of_best, ".2f"),
    ]


def _rank_cells(record: RankRecord) -> list[str]:
    return [
        record.boundary,
        str(record.charges),
        _power(record.tolerance),
        f"{record.force_error:.1e}",
        str(record.degree),
        str(record.rank),
        str(record.nodes) if record.nodes else "–",
    ]
