"""Errors of a model on labelled structures: mean absolute and root mean square, per property and kind of structure."""

import math
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from mlip.data.structures import Structure

_UNITS = {
    "energy": "meV",
    "energy per atom": "meV/atom",
    "forces": "meV/Å",
    "stress": "meV/Å³",
    "charges": "me",
    "dipole": "me Å",
}
_ALL = "all"


class ErrorRow(NamedTuple):
    """The error of one property over the structures of one kind; `kind` is "all" for all of them together."""

    kind: str
    property: str
    unit: str
    components: int  # With a label: an energy is one, forces three an atom, a stress nine, charges one an atom.
    mae: float
    rmse: float


class ErrorTable:
    """Adds up the errors of predictions against labels; of properties without a label, or not predicted, nothing.

    Errors of forces and stress are taken per Cartesian component, of which a stress has nine, so that neither depends
    on the orientation of the axes. Structures are told apart by `config_type`.
    """

    def __init__(self) -> None:
        # Per kind and property: Σ|error|, Σ error², number of components; in meV and Å.
        self._sums: dict[str, dict[str, NDArray[np.float64]]] = defaultdict(lambda: defaultdict(lambda: np.zeros(3)))

    def add(
        self,
        structure: Structure,
        energy: float,
        forces: NDArray[np.float64] | None = None,
        stress: NDArray[np.float64] | None = None,
        charges: NDArray[np.float64] | None = None,
        dipole: NDArray[np.float64] | None = None,
    ) -> None:
        """Compare a prediction with the labels of its structure; eV, eV/Å [N, 3], eV/Å³ [3, 3], e [N], e Å [3]."""
        errors: dict[str, NDArray[np.float64] | float] = {}
        if structure.energy is not None:
            errors["energy"] = energy - structure.energy
            errors["energy per atom"] = errors["energy"] / len(structure)
        predicted = {"forces": forces, "stress": stress, "charges": charges, "dipole": dipole}
        for name, value in predicted.items():
            label = getattr(structure, name)
            if label is not None and value is not None:
                errors[name] = value - label
        for name, error in errors.items():
            values = 1000.0 * np.asarray(error)
            sums = np.abs(values).sum(), np.square(values).sum(), values.size
            for kind in (structure.config_type, _ALL):
                self._sums[kind][name] += sums

    @property
    def rows(self) -> list[ErrorRow]:
        """The table: kinds in alphabetical order, all together at the end (and alone if there is one kind only)."""
        kinds = sorted(kind for kind in self._sums if kind != _ALL)
        kinds = [*(kinds if len(kinds) > 1 else []), _ALL]
        return [
            ErrorRow(kind or "(none)", name, unit, int(count), float(absolute / count), math.sqrt(squared / count))
            for kind in kinds
            for name, unit in _UNITS.items()
            if name in self._sums[kind]
            for absolute, squared, count in [self._sums[kind][name]]
        ]

    def rmse(self, name: str) -> float:
        """Root mean square error of a property over all structures; NaN if there was none to compare with."""
        return next((row.rmse for row in self.rows if row.kind == _ALL and row.property == name), math.nan)

    def to_dict(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The rows by kind and property, for JSON."""
        nested: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        for row in self.rows:
            numbers = {"unit": row.unit, "mae": row.mae, "rmse": row.rmse, "components": row.components}
            nested[row.kind][row.property] = numbers
        return dict(nested)

    def render(self, title: str) -> Table:
        """The table for a terminal."""
        table = Table("structures", "property", title=title, title_justify="left")
        for heading in ("MAE", "RMSE"):
            table.add_column(heading, justify="right")
        table.add_column("unit")
        table.add_column("labels", justify="right")
        rows = self.rows
        for row, after in zip(rows, [*rows[1:], None], strict=True):
            first = row.property == "energy" or row is rows[0]
            table.add_row(
                row.kind if first else "",
                row.property,
                f"{row.mae:.2f}",
                f"{row.rmse:.2f}",
                row.unit,
                str(row.components),
                end_section=after is not None and after.kind != row.kind,
            )
        return table
