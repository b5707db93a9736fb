"""Figures of the benchmark of electrostatics: error against time, time against size, ranks against tolerance."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from mlip.benchmarks.electrostatics import ElectrostaticsRecord, RankRecord
from mlip.benchmarks.figure_style import PALETTE, STYLE
from mlip.data.files import written_beside

# Where errors are drawn that are less, or zero.
_ROUNDING = 1e-15
# Markers say the same as colours.
_CONTENDERS: dict[str, dict[str, Any]] = {
    "auto": {"color": PALETTE[6], "marker": "", "linewidth": 4.0, "alpha": 0.25},
    "direct": {"color": PALETTE[0], "marker": "o"},
    "chebyshev_tucker": {"color": PALETTE[1], "marker": "s"},
    "ewald": {"color": PALETTE[2], "marker": "D"},
    "cdist_direct": {"color": PALETTE[5], "marker": "v", "linestyle": "--"},
    "torch-pme ewald": {"color": PALETTE[3], "marker": "^", "linestyle": "--"},
    "torch-pme pme": {"color": PALETTE[4], "marker": "P", "linestyle": "--"},
    "torch-pme p3m": {"color": PALETTE[7], "marker": "X", "linestyle": "--"},
}


def draw_electrostatics(
    folder: Path, records: Sequence[ElectrostaticsRecord], ranks: Sequence[RankRecord]
) -> list[Path]:
    """Draw into PNG files what was measured.

    Returns:
        The files.
    """
    measured = [record for record in records if record.median_ms is not None]
    figures = {}
    with mpl.rc_context(STYLE):
        if measured:
            figures["error_against_time.png"] = _error_against_time(measured)
            figures["time_against_size.png"] = _time_against_size(measured)
        if ranks:
            figures["ranks.png"] = _ranks(ranks)
        for name, figure in figures.items():
            with written_beside(folder / name) as partial:
                figure.savefig(partial, format="png", dpi=110)
    return [folder / name for name in figures]


def _error_against_time(records: Sequence[ElectrostaticsRecord]) -> Figure:
    """A panel for each number of charges; lines connect the tolerances of a contender."""

    def lines(axes: Axes, chosen: Sequence[ElectrostaticsRecord], style: dict[str, Any]) -> None:
        times = [each.listed_ms or 0.0 for each in chosen]
        axes.plot(times, [max(each.force_error or 0.0, _ROUNDING) for each in chosen], **style)

    return _panels(
        records, lambda record: record.charges, "{:,d} charges", lines, "ms, pair list included", "error of forces"
    )


def _time_against_size(records: Sequence[ElectrostaticsRecord]) -> Figure:
    """A panel for each tolerance; bands reach from the 20th to the 80th percentile."""

    def lines(axes: Axes, chosen: Sequence[ElectrostaticsRecord], style: dict[str, Any]) -> None:
        sizes = [each.charges for each in chosen]
        low, middle, high = (
            [getattr(each, name) for each in chosen] for name in ("listed_p20_ms", "listed_ms", "listed_p80_ms")
        )
        axes.plot(sizes, middle, **style)
        axes.fill_between(sizes, low, high, color=style["color"], alpha=0.15, linewidth=0)

    return _panels(
        records, lambda record: record.tolerance, "tolerance {:g}", lines, "charges", "ms, pair list included"
    )


def _panels(
    records: Sequence[ElectrostaticsRecord],
    column_of: Callable[[ElectrostaticsRecord], Any],
    title: str,
    lines: Callable[[Axes, Sequence[ElectrostaticsRecord], dict[str, Any]], None],
    across: str,
    up: str,
) -> Figure:
    """A row for each boundary, and a column for each value of `column_of`, with the lines of all contenders."""
    boundaries = list(dict.fromkeys(record.boundary for record in records))
    columns = list(dict.fromkeys(column_of(record) for record in records))
    size = (2.5 * len(columns) + 1.2, 2.5 * len(boundaries) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(boundaries), len(columns), squeeze=False, sharey="row")
    entries = {}
    for row, boundary in enumerate(boundaries):
        grid[row][0].set_ylabel(f"{boundary}\n{up}")
        for axes, column in zip(grid[row], columns, strict=True):
            axes.set(xscale="log", yscale="log", title=title.format(column))
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=8))
            axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}")
            axes.xaxis.set_minor_locator(NullLocator())
            if row == len(boundaries) - 1:
                axes.set_xlabel(across)
            here = [record for record in records if (record.boundary, column_of(record)) == (boundary, column)]
            for name, style in _CONTENDERS.items():
                chosen = [record for record in here if record.contender == name]
                if chosen:
                    lines(axes, chosen, style)
                    entries[name] = axes.lines[-1]
    names = [name for name in _CONTENDERS if name in entries]
    figure.legend(
        [entries[name] for name in names],
        names,
        loc="outside lower center",
        ncols=max(1, min(len(names), int(size[0] / 1.6))),
        fontsize=8,
    )
    return figure


def _ranks(ranks: Sequence[RankRecord]) -> Figure:
    """Sizes of the bases, and the errors that are reached with them."""
    boundaries = list(dict.fromkeys(each.boundary for each in ranks))
    figure = Figure(figsize=(3.6 * len(boundaries) + 0.4, 5.2), layout="constrained")
    grid = figure.subplots(2, len(boundaries), squeeze=False, sharex="all", sharey="row")
    for column, boundary in enumerate(boundaries):
        chosen = [each for each in ranks if each.boundary == boundary]
        tolerances = [each.tolerance for each in chosen]
        above, below = grid[0][column], grid[1][column]
        above.set_title(f"{boundary}, {chosen[0].charges:,d} charges, cutoff {chosen[0].cutoff:g} Å")
        above.plot(tolerances, [each.degree for each in chosen], color=PALETTE[0], marker="o", label="degree")
        above.plot(tolerances, [each.rank for each in chosen], color=PALETTE[1], marker="s", label="rank")
        if any(each.nodes for each in chosen):
            above.plot(tolerances, [each.nodes for each in chosen], color=PALETTE[2], marker="D", label="Gaussians")
        above.legend()
        below.plot(
            tolerances, [each.force_error for each in chosen], color=PALETTE[6], marker="o", label="error of forces"
        )
        below.plot(tolerances, tolerances, color="0.6", linestyle="--", label="tolerance")
        below.set(xscale="log", yscale="log", xlabel="tolerance")
        below.invert_xaxis()
        below.legend()
    grid[0][0].set_ylabel("along a side")
    grid[1][0].set_ylabel("relative error")
    return figure
