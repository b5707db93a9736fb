"""The error table against numpy."""

import io
import json
import math

import numpy as np
import pytest
from rich.console import Console

from mlip.data.structures import Structure
from mlip.training.metrics import ErrorTable


def make_pairs(seed: int = 0) -> list[tuple[Structure, float, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    pairs = []
    for i in range(12):
        atoms = int(rng.integers(1, 6))
        structure = Structure(
            numbers=np.ones(atoms, dtype=np.int64),
            positions=rng.normal(size=(atoms, 3)),
            energy=rng.normal() - 9000.0 * atoms,
            forces=rng.normal(size=(atoms, 3)),
            stress=rng.normal(size=(3, 3)) if i % 2 else None,
            config_type="water" if i % 3 else "ethanol",
        )
        noise = rng.normal(scale=0.01)
        pairs.append((structure, structure.energy + noise, rng.normal(size=(atoms, 3)), rng.normal(size=(3, 3))))
    return pairs


def fill(pairs: list[tuple[Structure, float, np.ndarray, np.ndarray]]) -> ErrorTable:
    table = ErrorTable()
    for pair in pairs:
        table.add(*pair)
    return table


@pytest.mark.parametrize("kind", ["water", "ethanol", "all"])
def test_rows_are_numpy_means(kind: str) -> None:
    pairs = make_pairs()
    rows = {row.property: row for row in fill(pairs).rows if row.kind == kind}
    chosen = [pair for pair in pairs if kind in ("all", pair[0].config_type)]
    energy = np.array([1000 * (predicted - s.energy) for s, predicted, *_ in chosen])
    atoms = np.array([len(s) for s, *_ in chosen])
    expected = {
        "energy": energy,
        "energy per atom": energy / atoms,
        "forces": np.concatenate([1000 * (f - s.forces).ravel() for s, _, f, _ in chosen]),
        "stress": np.concatenate([1000 * (t - s.stress).ravel() for s, _, _, t in chosen if s.stress is not None]),
    }
    assert list(rows) == list(expected)
    for name, errors in expected.items():
        assert rows[name].components == errors.size
        assert rows[name].mae == pytest.approx(np.abs(errors).mean(), rel=1e-9)
        assert rows[name].rmse == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-9)


def test_units_and_order() -> None:
    rows = fill(make_pairs()).rows
    assert [(row.kind, row.property, row.unit) for row in rows[:5]] == [
        ("ethanol", "energy", "meV"),
        ("ethanol", "energy per atom", "meV/atom"),
        ("ethanol", "forces", "meV/Å"),
        ("ethanol", "stress", "meV/Å³"),
        ("water", "energy", "meV"),
    ]
    assert rows[-1].kind == "all"


def test_one_kind_has_no_row_of_its_own() -> None:
    pairs = [pair for pair in make_pairs() if pair[0].config_type == "water"]
    assert {row.kind for row in fill(pairs).rows} == {"all"}


def test_properties_without_label_or_prediction_are_left_out() -> None:
    table = ErrorTable()
    table.add(Structure(np.array([1]), np.zeros((1, 3)), energy=1.0, stress=np.eye(3)), 1.5, np.zeros((1, 3)), None)
    assert [row.property for row in table.rows] == ["energy", "energy per atom"]
    assert table.rmse("energy") == pytest.approx(500.0)
    assert math.isnan(table.rmse("forces"))


def test_empty_table_has_no_rows() -> None:
    assert ErrorTable().rows == []


def test_json_holds_the_rows() -> None:
    table = fill(make_pairs())
    restored = json.loads(json.dumps(table.to_dict()))
    for row in table.rows:
        assert restored[row.kind][row.property] == {
            "unit": row.unit,
            "mae": row.mae,
            "rmse": row.rmse,
            "components": row.components,
        }


def test_rendered_table_shows_every_number() -> None:
    table = fill(make_pairs())
    console = Console(width=120, file=io.StringIO())
    console.print(table.render("Errors"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for row in table.rows:
        assert f"{row.rmse:.2f}" in text
        assert row.unit in text
