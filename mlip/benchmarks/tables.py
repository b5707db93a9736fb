"""Tables of results: Markdown for a file, the narrow half of it for the console."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import TYPE_CHECKING

from mlip.benchmarks.records import Environment, Record

if TYPE_CHECKING:
    from rich.table import Table

SETTING_TITLES = {
    "siso": "SISO: L × L → L",
    "simo": "SIMO: L × L → 0 … 2L",
    "mimo": "MIMO: 0 … L × 0 … L → 0 … 2L",
    "network": "network: 0 … L × 0 … L → 0 … L, one channel in y",
}
_PASS_TITLES = {"forward": "forward", "backward": "backward", "double_backward": "double backward", "full": "full"}
_SHORT_TITLES = _PASS_TITLES | {"double_backward": "double"}


@dataclass(frozen=True)
class Row:
    """All passes of a contender on a problem.

    Attributes:
        common: Any of its records, for what all passes share.
        times: The record of each pass that was measured.
        of_e3nn: e3nn's forward time over this one's, for the same paths, weights and outputs; None without.
    """

    common: Record
    times: dict[str, Record]
    of_e3nn: float | None


def rows(records: Sequence[Record]) -> list[Row]:
    """One row for each contender with a measured pass; of one setting, degree and coupling the fastest comes first."""
    grouped: dict[tuple[object, ...], dict[str, Record]] = {}
    for record in records:
        if record.median_ms is not None:
            grouped.setdefault((*_problem(record), record.contender), {})[record.measured] = record
    e3nn = {key[:-1]: times["forward"] for key, times in grouped.items() if key[-1] == "e3nn" and "forward" in times}
    found = []
    for key, times in grouped.items():
        baseline = e3nn.get(key[:-1])
        ratio = None
        if baseline is not None and "forward" in times:
            ratio = _milliseconds(baseline) / _milliseconds(times["forward"])
        found.append(Row(next(iter(times.values())), times, ratio))
    order = list(dict.fromkeys(_problem(record) for record in records))
    return sorted(found, key=lambda row: (order.index(_problem(row.common)), _first_time(row)))


def markdown(environment: Environment, records: Sequence[Record]) -> str:
    """The whole report: machine, one table for each setting, what was skipped and why."""
    lines = ["# Tensor products", "", *_machine_lines(environment, records), ""]
    passes = _passes(records)
    columns = [*_names(), *_times(passes), *_figures(), _DIFFERS]
    for setting in dict.fromkeys(record.setting for record in records):
        chosen = [row for row in rows(records) if row.common.setting == setting]
        if chosen:
            lines += [f"## {SETTING_TITLES[setting]}", "", *_markdown_table(columns, chosen), ""]
    skipped = _skipped(records)
    if skipped:
        lines += ["## Skipped", "", *(f"- {who}: {reason}" for reason, who in skipped.items()), ""]
    return "\n".join(lines)


def console_tables(records: Sequence[Record]) -> "Iterable[Table]":
    """A table for each setting and coupling, as wide as a terminal, with what differs in notes below."""
    from rich import box
    from rich.table import Table

    for setting, coupling in dict.fromkeys((record.setting, record.coupling) for record in records):
        chosen = [row for row in rows(records) if (row.common.setting, row.common.coupling) == (setting, coupling)]
        if not chosen:
            continue
        remarks = list(dict.fromkeys(row.common.differs for row in chosen if row.common.differs))
        table = Table(
            title=f"{SETTING_TITLES[setting]}; {coupling}; ms",
            caption="\n".join(f"{letter}: {remark}" for letter, remark in zip(ascii_lowercase, remarks, strict=False)),
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        columns = _console_columns(_passes(records))
        for column in columns:
            table.add_column(
                column.title,
                justify="left" if column.text else "right",
                overflow="fold",
                no_wrap=not column.text,
            )
        table.add_column("")
        for row in chosen:
            differs = row.common.differs
            letter = ascii_lowercase[remarks.index(differs) % 26] if differs else ""
            table.add_row(*(column.cell(row) for column in columns), letter)
        yield table


@dataclass(frozen=True)
class _Column:
    title: str
    cell: Callable[[Row], str]
    text: bool = False


def _names() -> list[_Column]:
    return [
        _Column("L", lambda row: str(row.common.degree)),
        _Column("coupling", lambda row: row.common.coupling, text=True),
        _Column("contender", lambda row: row.common.contender, text=True),
    ]


def _times(passes: list[str]) -> list[_Column]:
    def cell(which: str) -> Callable[[Row], str]:
        return lambda row: _time_cell(row.times.get(which))

    return [_Column(f"{_PASS_TITLES[which]} ms", cell(which)) for which in passes]


def _console_columns(passes: list[str]) -> list[_Column]:
    """What fits on eighty columns."""

    def median(which: str) -> Callable[[Row], str]:
        return lambda row: number_cell(row.times[which].median_ms, ".3g") if which in row.times else "–"

    return [
        _Column("L", lambda row: str(row.common.degree)),
        _Column("contender", lambda row: row.common.contender, text=True),
        *(_Column(_SHORT_TITLES[which], median(which)) for which in passes),
        _Column("× e3nn", lambda row: number_cell(row.of_e3nn, ".2f")),
        _Column("paths", lambda row: number_cell(row.common.paths, "d")),
        _Column("expr.", lambda row: number_cell(row.common.expressivity, "d")),
    ]


def _figures() -> list[_Column]:
    def forward(row: Row) -> Record:
        return row.times.get("forward", row.common)

    return [
        _Column("× e3nn", lambda row: number_cell(row.of_e3nn, ".2f")),
        _Column("paths", lambda row: number_cell(row.common.paths, "d")),
        _Column("expressivity", lambda row: number_cell(row.common.expressivity, "d")),
        _Column("interactions", lambda row: number_cell(row.common.interactions, "d")),
        _Column("error", lambda row: number_cell(row.common.error, ".1e")),
        _Column("equivariance error", lambda row: number_cell(row.common.equivariance_error, ".1e")),
        _Column("GF/s", lambda row: number_cell(forward(row).gflops, ".3g")),
        _Column("GB/s", lambda row: number_cell(forward(row).gbytes, ".3g")),
        _Column("of roofline", lambda row: number_cell(forward(row).roofline_fraction, ".1%")),
        _Column("peak MB", lambda row: number_cell(row.common.peak_memory_mb, ".3g")),
        _Column("construction s", lambda row: number_cell(row.common.construction_s, ".2g")),
    ]


_DIFFERS = _Column("differs", lambda row: row.common.differs or "–", text=True)


def _markdown_table(columns: list[_Column], chosen: list[Row]) -> list[str]:
    cells = ([column.cell(row) for column in columns] for row in chosen)
    return markdown_table([column.title for column in columns], cells, [column.text for column in columns])


def machine_sentence(environment: Environment) -> str:
    """Device, threads, versions and date."""
    commit = f" ({environment.commit})" if environment.commit else ""
    return (
        f"{environment.device}, threads used: {environment.threads}, mlip {environment.mlip_version}{commit}, "
        f"torch {environment.torch_version}, {environment.date}."
    )


def markdown_table(titles: Sequence[str], cells: Iterable[Sequence[str]], text: Sequence[bool]) -> list[str]:
    """Lines of a table; columns of text are aligned to the left, others to the right."""
    rule = "|" + "|".join("---" if each else "---:" for each in text) + "|"
    return [f"| {' | '.join(titles)} |", rule, *(f"| {' | '.join(row)} |" for row in cells)]


def time_cell(median: float | None, p20: float | None, p80: float | None) -> str:
    """Milliseconds with their spread."""
    return "–" if median is None else f"{median:.3g} ({p20:.3g}–{p80:.3g})"


def number_cell(value: float | None, form: str) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else format(value, form)


def _machine_lines(environment: Environment, records: Sequence[Record]) -> list[str]:
    first = records[0]
    lines = [
        f"{machine_sentence(environment)} {first.batch} rows of {first.channels} channels, {first.dtype}, "
        f"weights {first.weights}, mode {first.mode}.",
    ]
    if environment.peak_gflops is not None:
        lines.append(
            f"Large matrix product {environment.peak_gflops:.0f} GF/s, large copy {environment.copy_gbytes:.0f} GB/s."
        )
    lines.append("Times are medians with the 20th and 80th percentile; docs/benchmarks.md explains the columns.")
    return lines


def _skipped(records: Sequence[Record]) -> dict[str, str]:
    """Who was skipped where, by reason."""
    found: dict[str, dict[str, list[str]]] = {}
    for record in records:
        if record.reason:
            who = f"{record.contender} ({record.coupling}{', ' + record.measured if record.measured else ''})"
            found.setdefault(record.reason, {}).setdefault(who, []).append(f"{record.setting} {record.degree}")
    return {
        reason: "; ".join(f"{who} in {', '.join(places)}" for who, places in groups.items())
        for reason, groups in found.items()
    }


def _problem(record: Record) -> tuple[object, ...]:
    return record.setting, record.degree, record.coupling


def _passes(records: Sequence[Record]) -> list[str]:
    measured = {record.measured for record in records}
    return [which for which in _PASS_TITLES if which in measured]


def _first_time(row: Row) -> float:
    return _milliseconds(row.times.get("forward", row.common))


def _milliseconds(record: Record) -> float:
    assert record.median_ms is not None
    return record.median_ms


def _time_cell(record: Record | None) -> str:
    return "–" if record is None else time_cell(record.median_ms, record.p20_ms, record.p80_ms)
