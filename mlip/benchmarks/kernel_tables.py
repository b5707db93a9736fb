"""Tables of the benchmark of kernels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlip.benchmarks.kernels import KernelRecord
from mlip.benchmarks.records import Environment
from mlip.benchmarks.tables import machine_sentence, markdown_table, number_cell, time_cell

if TYPE_CHECKING:
    from rich.table import Table

_TITLES = ["operation", "", "ms", "of reference", "ratio", "GF/s", "GB/s", "roof"]

# Columns of the console are no narrower than the longest word of their titles.
_WIDTHS = [max(len(word) for word in title.split() or [""]) for title in _TITLES]


def kernel_markdown(environment: Environment, problem: str, records: Sequence[KernelRecord]) -> str:
    """The whole report: machine, its peaks, times, what could not be measured and why."""
    lines = ["# Kernels", "", machine_sentence(environment), f"{problem} {peak_sentence(environment)}"]
    lines += [
        "Times are medians, with the 20th and 80th percentile of the kernel's; the ratio is reference over kernel.",
        "Under roof stands the shortest time that the two peaks allow, over the kernel's.",
        "",
    ]
    lines += markdown_table(_TITLES, [_cells(record, spread=True) for record in records], [True] * 2 + [False] * 6)
    failed = [record for record in records if record.reason]
    if failed:
        lines += ["", "## Not measured", ""]
        lines += [f"- {record.operation}, {record.measured}: {record.reason}" for record in failed]
    return "\n".join([*lines, ""])


def kernel_table(records: Sequence[KernelRecord]) -> "Table":
    """The table for the console; the ratio is that of the reference's time to the kernel's."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, title in enumerate(_TITLES):
        table.add_column(
            title,
            justify="left" if number < 2 else "right",
            overflow="fold",
            no_wrap=number < 2,
            min_width=_WIDTHS[number],
        )
    for record in records:
        table.add_row(*_cells(record, spread=False))
    return table


def peak_sentence(environment: Environment) -> str:
    """The two peaks that times are compared with."""
    return (
        f"Fused multiplications and additions on registers {number_cell(environment.peak_gflops, '.0f')} GF/s, "
        f"large copy {number_cell(environment.copy_gbytes, '.1f')} GB/s."
    )


def _cells(record: KernelRecord, spread: bool) -> list[str]:
    time = time_cell(record.kernel_ms, record.kernel_p20_ms, record.kernel_p80_ms)
    return [
        record.operation,
        record.measured,
        time if spread else number_cell(record.kernel_ms, ".3g"),
        number_cell(record.reference_ms, ".3g"),
        number_cell(record.speedup, ".3g"),
        number_cell(record.gflops, ".3g"),
        number_cell(record.gbytes, ".3g"),
        number_cell(record.roofline_fraction, ".0%"),
    ]
