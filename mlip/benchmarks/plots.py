"""Figures of results: time against degree, time for what a product can express, and error against time."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from mlip.benchmarks.figure_style import PALETTE, STYLE
from mlip.benchmarks.records import Record
from mlip.benchmarks.tables import SETTING_TITLES
from mlip.data.files import written_beside
from mlip.tensor_products.couplings import COUPLINGS

# They say the same as colours.
_MARKERS = "osD^vP*X"
_LINES = {
    "clebsch_gordan": "-",
    "gaunt": "--",
    "bracket": ":",
    "gaunt+bracket": "-.",
    "matrix": (0, (5, 1, 1, 1, 1, 1)),
}


def draw(folder: Path, records: Sequence[Record]) -> list[Path]:
    """Draw what the records allow into PNG files.

    Returns:
        The files.
    """
    measured = [record for record in records if record.median_ms is not None]
    drawn = []
    with mpl.rc_context(STYLE):
        for which in dict.fromkeys(record.measured for record in measured):
            chosen = [record for record in measured if record.measured == which]
            name = which.replace("_", " ")
            drawn.append(
                _save(_against_degree(chosen, f"{name}, ms", lambda record: 1.0), folder / f"time_{which}.png")
            )
        forward = [record for record in measured if record.measured == "forward"]
        if forward:
            per_path = _against_degree(forward, "ms per path", lambda record: record.paths)
            drawn.append(_save(per_path, folder / "time_per_path.png"))
        if any((record.expressivity or 0) > 1 for record in forward):
            per_unit = _against_degree(forward, "ms per unit of expressivity", lambda record: record.expressivity)
            drawn.append(_save(per_unit, folder / "time_per_expressivity.png"))
        if any(record.exact is False for record in forward):
            drawn.append(_save(_error_against_time(forward), folder / "error_against_time.png"))
    return drawn


def _against_degree(records: Sequence[Record], label: str, divisor: Callable[[Record], float | None]) -> Figure:
    """The band of a line reaches from the 20th to the 80th percentile."""
    figure, panels = _panels(records, "degree L", label, share="all")
    styles = _Styles(records)
    for panel, axes in panels.items():
        for contender in styles.contenders:
            points = [
                (record, divisor(record))
                for record in records
                if (record.setting, record.coupling, record.contender) == (*panel, contender)
            ]
            scaled = [(record, scale) for record, scale in points if scale]
            if not scaled:
                continue
            style = styles.of(contender)
            degrees = [record.degree for record, _ in scaled]
            low, middle, high = (
                [getattr(record, name) / scale for record, scale in scaled]
                for name in ("p20_ms", "median_ms", "p80_ms")
            )
            axes.plot(degrees, middle, label=contender, **style)
            axes.fill_between(degrees, low, high, color=style["color"], alpha=0.18, linewidth=0)
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _plain_numbers(axes.yaxis)
    _legend(figure, panels)
    return figure


def _error_against_time(records: Sequence[Record]) -> Figure:
    """Every contender at its time and error; grey lines connect what is of one degree."""
    figure, panels = _panels(records, "forward, ms", "relative error", share="row")
    styles = _Styles(records)
    for panel, axes in panels.items():
        here = [record for record in records if (record.setting, record.coupling) == panel and record.error]
        for contender in styles.contenders:
            chosen = [record for record in here if record.contender == contender]
            if chosen:
                style = styles.of(contender) | {"linestyle": ""}
                axes.plot(_values(chosen, "median_ms"), _values(chosen, "error"), label=contender, **style)
        for degree in dict.fromkeys(record.degree for record in here):
            ranks = [record for record in here if record.degree == degree and record.contender.startswith("cp")]
            ranks.sort(key=lambda record: record.error or 0.0)
            axes.plot(_values(ranks, "median_ms"), _values(ranks, "error"), color="0.6", linewidth=0.8, zorder=0)
            for record in ranks[-1:]:
                place = (record.median_ms or 0.0, record.error or 0.0)
                axes.annotate(f"L={degree}", place, xytext=(4, 4), textcoords="offset points", fontsize=7)
        axes.set(xscale="log", yscale="log")
        _plain_numbers(axes.xaxis)
    _legend(figure, panels)
    return figure


def _values(records: Sequence[Record], name: str) -> list[float]:
    return [float(getattr(record, name)) for record in records]


class _Styles:
    """A colour and a marker for each contender, the same in every panel."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.contenders = list(dict.fromkeys(record.contender for record in records))

    def of(self, contender: str) -> dict[str, Any]:
        number = self.contenders.index(contender)
        return {
            "color": PALETTE[number % len(PALETTE)],
            # The second eight get other pairs of colour and marker.
            "marker": _MARKERS[(number + number // len(PALETTE)) % len(_MARKERS)],
        }


def _panels(
    records: Sequence[Record], across: str, up: str, share: Literal["all", "row"]
) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """A row for each setting, whose panels share their vertical axis, and a column for each coupling.

    Args:
        records: What will be drawn.
        across: Label of the horizontal axes.
        up: Label of the vertical axes.
        share: Which panels share their horizontal axis.
    """
    settings = list(dict.fromkeys(record.setting for record in records))
    couplings = [coupling for coupling in COUPLINGS if any(record.coupling == coupling for record in records)]
    figure = Figure(figsize=(3.9 * len(couplings) + 0.4, 2.5 * len(settings) + 0.9), layout="constrained")
    grid = figure.subplots(len(settings), len(couplings), squeeze=False, sharex=share, sharey="row")
    panels: dict[tuple[str, str], Axes] = {}
    for row, setting in enumerate(settings):
        grid[row][0].set_ylabel(up)
        for column, coupling in enumerate(couplings):
            axes = grid[row][column]
            axes.set_title(f"{SETTING_TITLES[setting]}\n{coupling}")
            if share == "row" or row == len(settings) - 1:
                axes.set_xlabel(across)
            panels[setting, coupling] = axes
    return figure, panels


def _plain_numbers(axis: Axis) -> None:
    """Write 0.5 and 20, not powers of ten, on a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def _legend(figure: Figure, panels: dict[tuple[str, str], Axes]) -> None:
    entries: dict[str, Artist] = {}
    for axes in panels.values():
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    # About two inches an entry.
    columns = max(1, min(4, int(figure.get_figwidth() / 2.0)))
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns, fontsize=8)


def _save(figure: Figure, path: Path) -> Path:
    with written_beside(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
    return path
