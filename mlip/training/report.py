"""The report of a run: one HTML file that needs no network and no JavaScript."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from omegaconf import OmegaConf

from mlip.data.files import written_beside
from mlip.training.config import TrainingConfig
from mlip.training.evaluation import Evaluation
from mlip.training.figures import learning_curves, parity_plot
from mlip.training.metrics import ErrorTable

_TEMPLATE = Path(__file__).with_name("report.html")


@dataclass(frozen=True)
class Report:
    """What a report tells.

    Attributes:
        config: of the run, with everything filled in.
        rows: of metrics.csv.
        best_epoch: whose weights the model has.
        provenance: as in the model file.
        evaluations: of these weights, by the name of the data; the last one gives the headline.
    """

    config: TrainingConfig
    rows: Sequence[dict[str, float]]
    best_epoch: int
    provenance: dict[str, Any]
    evaluations: dict[str, Evaluation]

    def write(self, path: Path) -> None:
        """Write the HTML file."""
        model = self.config.model
        title = f"{model.architecture} potential for {', '.join(model.elements)}"
        lead = (
            f"{model.hidden_irreps}, cutoff {model.cutoff:g} Å, trained on {self.provenance['training_frames']} "
            f"frames; weights of epoch {self.best_epoch} of {len(self.rows)}"
        )
        page = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
            title=escape(title),
            lead=escape(lead),
            numbers="\n".join(_number(*number) for number in self._numbers()),
            curves=_figures(learning_curves(self.rows, self.best_epoch)),
            errors="\n".join(_error_table(name, each.errors) for name, each in self.evaluations.items()),
            parity="\n".join(_parity(name, each) for name, each in self.evaluations.items()),
            facts="\n".join(f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>" for key, value in self._facts()),
            config=escape(OmegaConf.to_yaml(OmegaConf.create(self.config.model_dump(mode="json"))).rstrip()),
        )
        with written_beside(path) as partial:
            partial.write_text(page, encoding="utf-8")

    def _numbers(self) -> list[tuple[str, str, str]]:
        """Headline numbers: value, unit, label."""
        name, evaluation = list(self.evaluations.items())[-1]
        total = {row.property: row for row in evaluation.errors.rows if row.kind == "all"}
        numbers = [
            (f"{total[prop].rmse:.1f}", total[prop].unit, f"RMSE of {prop}, {name}")
            for prop in ("forces", "energy per atom", "stress")
            if prop in total
        ]
        numbers.append(
            (_duration(sum(row["seconds"] for row in self.rows)), "", f"of training, {len(self.rows)} epochs")
        )
        numbers.append((f"{self.provenance['parameters']:,}".replace(",", "\u202f"), "", "parameters"))
        return numbers

    def _facts(self) -> list[tuple[str, str]]:
        facts = self.provenance
        return [
            ("Data", ", ".join(facts["training_files"])),
            ("Frames", f"{facts['training_frames']} for training, {facts['validation_frames']} for validation"),
            ("Seed", str(facts["seed"])),
            ("Machine", f"{facts['machine']}; {facts['processes']} × {facts['threads']} threads"),
            ("Version", f"tensor-mlip {facts['package_version']}, PyTorch {facts['torch_version']}"),
            ("Commit", facts["commit"] or "not in a checkout"),
            ("Date", facts["date"]),
        ]


def _card(content: str) -> str:
    return f'<div class="card">{content}</div>'


def _number(value: str, unit: str, label: str) -> str:
    return _card(
        f'<div class="number">{value} <small>{escape(unit)}</small></div><div class="label">{escape(label)}</div>'
    )


def _error_table(name: str, errors: ErrorTable) -> str:
    """Kinds of structures down, properties across."""
    rows = errors.rows
    units = {row.property: row.unit for row in rows}
    cells = {(row.kind, row.property): row for row in rows}
    head = "".join(f'<th class="group" colspan="2">{prop} <small>{unit}</small></th>' for prop, unit in units.items())
    body = ""
    for kind in dict.fromkeys(row.kind for row in rows):
        values = (cells.get((kind, prop)) for prop in units)
        numbers = "".join(f"<td>{v.mae:.2f}</td><td>{v.rmse:.2f}</td>" if v else "<td>–</td>" * 2 for v in values)
        row_class = ' class="total"' if kind == "all" else ""
        body += f"<tr{row_class}><td>{escape(kind)}</td>{numbers}</tr>"
    return (
        f"<h3>{escape(name)}</h3>"
        f'<div class="card scroll"><table><thead><tr><th rowspan="2" class="kind">structures</th>{head}</tr>'
        f"<tr>{'<th>MAE</th><th>RMSE</th>' * len(units)}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _parity(name: str, evaluation: Evaluation) -> str:
    plots = [
        parity_plot(title, unit, pairs)
        for title, unit, pairs in (
            ("Energy after reference energies", "eV/atom", evaluation.energy),
            ("Forces", "eV/Å", evaluation.forces),
            ("Stress", "eV/Å³", evaluation.stress),
        )
        if len(pairs)
    ]
    return f"<h3>{escape(name)}</h3>{_figures(plots)}"


def _figures(plots: list[str]) -> str:
    """Two or three figures side by side; four in two rows."""
    columns = 3 if len(plots) == 3 else 2
    return f'<div class="figures" style="--columns: {columns}">{"".join(map(_card, plots))}</div>'


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
