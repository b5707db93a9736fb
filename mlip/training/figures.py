"""Figures of the report, as SVG that takes its ink from the page, so that they suit a light and a dark one."""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

# Colours that stand in for the page's own; nothing else in a figure has them.
_INK, _LINES = "#010203", "#040506"
_BLUE, _ORANGE = "#3f7fd0", "#e08a3c"
_STYLE: Any = {
    "svg.fonttype": "none",  # Text stays text, in the font of the page.
    "svg.hashsalt": "mlip",  # The same figure gives the same file.
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.edgecolor": _LINES,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=[_BLUE, _ORANGE]),
    "grid.color": _LINES,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.5,
    "xtick.color": _LINES,
    "ytick.color": _LINES,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.labelcolor": _INK,
}
# Points beyond this number change nothing that can be seen.
_MOST_POINTS = 50_000


def learning_curves(rows: Sequence[dict[str, float]], best_epoch: int) -> list[str]:
    """Loss and errors from epoch to epoch; a dotted line marks the best epoch."""
    epochs = [row["epoch"] for row in rows]
    panels = [
        ("Loss", "", {"training": "train_loss", "validation": "validation_loss"}, 1),
        ("Force error on validation", "meV/Å", {"RMSE": "forces_rmse", "MAE": "forces_mae"}, 1e3),
        ("Energy error on validation", "meV/atom", {"RMSE": "energy_per_atom_rmse", "MAE": "energy_per_atom_mae"}, 1e3),
        ("Stress error on validation", "meV/Å³", {"RMSE": "stress_rmse", "MAE": "stress_mae"}, 1e3),
        ("Charge error on validation", "me", {"RMSE": "charges_rmse", "MAE": "charges_mae"}, 1e3),
        ("Dipole error on validation", "me Å", {"RMSE": "dipole_rmse", "MAE": "dipole_mae"}, 1e3),
        ("Total charge before correction", "me", {"RMSE": "total_charge_rmse", "MAE": "total_charge_mae"}, 1e3),
    ]
    figures = []
    for title, unit, lines, factor in panels:
        if not all(name in rows[0] for name in lines.values()):
            continue
        with mpl.rc_context(_STYLE):
            figure, axes = _panel(title)
            for label, name in lines.items():
                marker = "o" if len(epochs) == 1 else ""
                axes.plot(epochs, [factor * row[name] for row in rows], label=label, marker=marker)
            axes.axvline(best_epoch, color=_LINES, linewidth=1, linestyle=":")
            axes.set(xlabel="epoch", ylabel=unit, yscale="log")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            low, high = axes.get_ylim()
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 8 * low else (1, 1.5, 2, 3, 4, 6, 8)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_locator(NullLocator())
            axes.legend()
            figures.append(_to_svg(figure, f"{title} against epoch"))
    return figures


def parity_plot(title: str, unit: str, pairs: NDArray[np.float64]) -> str:
    """Predictions against references, pairs [n, 2], with the line on which they would agree."""
    chosen = np.random.default_rng(0).permutation(len(pairs))[:_MOST_POINTS]
    low, high = pairs.min(), pairs.max()
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    with mpl.rc_context(_STYLE):
        figure, axes = _panel(title, square=True)
        axes.plot(limits, limits, color=_LINES, linewidth=1)
        size, alpha = (16, 0.6) if len(chosen) < 2000 else (4, 0.3)
        axes.scatter(
            pairs[chosen, 0], pairs[chosen, 1], s=size, alpha=alpha, linewidths=0, color=_BLUE, rasterized=True
        )
        axes.set(xlim=limits, ylim=limits, xlabel=f"reference, {unit}", ylabel=f"model, {unit}", aspect="equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5))
        return _to_svg(figure, f"{title}: model against reference")


def _panel(title: str, square: bool = False) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.2, 4.2) if square else (4.2, 3.0), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    return figure, axes


def _to_svg(figure: Figure, description: str) -> str:
    """The figure as an SVG element of the width of its surroundings."""
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", dpi=150, metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", svg, count=1)
    svg = re.sub(r'<svg([^>]*?) height="[^"]*"', rf'<svg\1 role="img" aria-label="{description}"', svg, count=1)
    return svg.replace(_INK, "var(--ink)").replace(_LINES, "var(--lines)")
