"""The benchmark of electrostatics: systems, references, contenders, ratios, tables, figures, command line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from rich.console import Console
from typer.testing import CliRunner

from mlip.benchmarks import electrostatics as bench
from mlip.benchmarks import electrostatics_contenders as contenders
from mlip.benchmarks import electrostatics_torch_pme as peer
from mlip.benchmarks.electrostatics import ElectrostaticsPlan, ElectrostaticsRecord, RankRecord, with_ratios
from mlip.benchmarks.electrostatics_direct import matrix_direct
from mlip.benchmarks.electrostatics_plots import draw_electrostatics
from mlip.benchmarks.electrostatics_systems import (
    LEAST_DISTANCE,
    charged_box,
    energy_error,
    force_error,
    reference,
    solve,
)
from mlip.benchmarks.electrostatics_tables import electrostatics_markdown, electrostatics_tables, summary
from mlip.benchmarks.records import Environment
from mlip.cli.main import app
from mlip.electrostatics import CoulombSolver, pairs
from mlip.electrostatics.constants import COULOMB_CONSTANT

GIB = 2**30


def plan(**changes: Any) -> ElectrostaticsPlan:
    return replace(ElectrostaticsPlan(["open"], [40], [1e-3], 0.0, 10.0, GIB, 40), **changes)


@pytest.fixture
def records() -> list[ElectrostaticsRecord]:
    """Two problems, that no machine has measured."""
    blank = ElectrostaticsRecord("periodic", 100, 1e-4, "auto", reference="ewald at 1e-12")
    found = []
    for tolerance, scale in ((1e-4, 1.0), (1e-6, 2.0)):
        problem = []
        for name, kept, listed in (("auto", 2.2, 4.0), ("chebyshev_tucker", 2.0, 5.0), ("ewald", 4.0, 8.0)):
            problem.append((name, kept, listed))
        problem += [("torch-pme pme", 8.0, 10.0), ("torch-pme p3m", 6.0, 12.0)]
        timed = [
            replace(
                blank,
                tolerance=tolerance,
                contender=name,
                force_error=tolerance / 2,
                energy_error=1e-9,
                median_ms=scale * kept,
                p20_ms=scale * kept,
                p80_ms=scale * kept,
                listed_ms=scale * listed,
                listed_p20_ms=scale * listed,
                listed_p80_ms=scale * listed,
                rounds=5,
            )
            for name, kept, listed in problem
        ]
        slow = replace(blank, tolerance=tolerance, contender="torch-pme ewald", reason="a call took 11.0 s")
        found += [*with_ratios(timed), slow]
    return found


@pytest.mark.parametrize("boundary", ["open", "periodic"])
def test_charges_keep_their_distance_and_are_neutral(boundary: str) -> None:
    box = charged_box(boundary, 150)
    differences = box.positions[:, None] - box.positions
    if box.cell is not None:
        side = box.cell[0, 0]
        assert side**3 == pytest.approx(box.volume)
        differences = differences - side * (differences / side).round()
    distances = differences.norm(dim=2).fill_diagonal_(torch.inf)
    assert distances.min() >= LEAST_DISTANCE - 1e-12
    assert abs(float(box.charges.sum())) < 1e-12
    assert torch.equal(box.positions, charged_box(boundary, 150).positions)


def test_the_direct_sum_is_that_over_pairs() -> None:
    box = charged_box("open", 60)
    x, q = box.positions.numpy(), box.charges.numpy()
    differences = x[:, None] - x
    distances = np.linalg.norm(differences, axis=2)
    np.fill_diagonal(distances, np.inf)
    energy = COULOMB_CONSTANT / 2 * (np.outer(q, q) / distances).sum()
    forces = COULOMB_CONSTANT * (np.outer(q, q) / distances**3)[..., None] * differences
    found = matrix_direct(box.positions, box.charges)
    assert found.energy == pytest.approx(energy, rel=1e-13)
    np.testing.assert_allclose(found.forces.numpy(), forces.sum(1), rtol=0, atol=1e-12 * np.abs(forces).max())


def test_the_direct_sum_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    box = charged_box("open", 50)
    whole = matrix_direct(box.positions, box.charges)
    monkeypatch.setattr("mlip.benchmarks.electrostatics_direct._NUMBERS", 50 * 7)
    parts = matrix_direct(box.positions, box.charges)
    assert force_error(parts, whole) < 1e-13
    assert energy_error(parts, whole) < 1e-13


def test_both_references_of_periodic_boxes_agree() -> None:
    box = charged_box("periodic", 100)
    first = reference(box, GIB)
    assert first.method == "ewald at 1e-12"
    second = solve(CoulombSolver(1e-11, None, "chebyshev_tucker"), box, box.positions)
    assert force_error(second, first.found) < 1e-10
    assert energy_error(second, first.found) < 1e-10


def test_references_that_take_too_much_memory_are_replaced() -> None:
    assert reference(charged_box("periodic", 1000), 2**28).method == "chebyshev_tucker at 1e-11"


@pytest.mark.parametrize(("boundary", "lists"), [("open", False), ("periodic", True)])
def test_lists_are_made_in_calls_that_are_timed_with_them(
    boundary: str, lists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    pair_list = pairs.pair_list

    def counted(*arguments: Any) -> pairs.PairList:
        made.append(1)
        return pair_list(*arguments)

    monkeypatch.setattr(pairs, "pair_list", counted)
    contender = contenders.ours("auto", charged_box(boundary, 60), 1e-3, 10.0, GIB)
    steps = dict(contenders.steps_of(contender))
    made.clear()
    steps["auto", "kept"]()()
    steps["auto", "kept"]()()
    assert not made
    for _ in range(2 if lists else 0):
        call = steps["auto", "listed"]()
        made.clear()
        call()
        assert len(made) == 1
    assert (("auto", "listed") in steps) == lists


def test_what_would_take_too_long_or_too_much_is_left_out() -> None:
    small = plan(charges=[100], boundaries=["open", "periodic"], tolerances=[1e-4])
    slow = [record for found in bench.run_electrostatics(replace(small, call_limit=1e-5), _quiet) for record in found]
    assert {record.median_ms for record in slow} == {None}
    assert all("a call" in record.reason or "nothing reaches" in record.reason for record in slow)


def test_open_contenders_are_measured_and_within_the_tolerance() -> None:
    (found,) = bench.run_electrostatics(plan(), _quiet)
    assert [record.contender for record in found] == ["auto", "direct", "chebyshev_tucker", "cdist_direct"]
    for record in found:
        assert record.reason == ""
        assert record.force_error is not None
        assert record.force_error < 1e-3
        assert record.median_ms is not None
        assert (record.speedup is None) == (record.contender == "cdist_direct")
        assert (record.of_best is None) == (record.contender != "auto")


def test_ratios_compare_like_with_like(records: list[ElectrostaticsRecord]) -> None:
    auto = records[0]
    assert auto.speedup == pytest.approx(6.0 / 2.2)
    assert auto.speedup_listed == pytest.approx(10.0 / 4.0)
    assert auto.speedup_least == pytest.approx(6.0 / 4.0)
    assert auto.of_best == pytest.approx(1.1)
    assert {record.speedup for record in records if not record.is_ours} == {None}


def test_ranks_grow_and_errors_fall_with_the_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "RANK_TOLERANCES", (1e-2, 1e-5))
    for boundary in ("open", "periodic"):
        coarse, fine = bench.run_ranks(plan(boundaries=[boundary], rank_charges=60))
        assert coarse.rank < fine.rank
        assert coarse.degree < fine.degree
        assert coarse.force_error < 1e-2
        assert fine.force_error < 1e-5
        assert (fine.nodes > 0) == (boundary == "open")


def test_tables_name_all(environment: Environment, records: list[ElectrostaticsRecord]) -> None:
    ranks = [RankRecord("open", 100, 6.0, 1e-4, 20, 12, 9, 3e-5)]
    text = electrostatics_markdown(environment, records, ranks)
    assert "| 100 | 1e-4 | auto | 5.0e-05 | 2.2 (2.2–2.2) | 4 (4–4) | 2.73 | 2.50 | 1.50 | 1.10 |" in text
    assert "- torch-pme ewald, N = 100, 1e-6: a call took 11.0 s" in text
    assert "| open | 100 | 1e-4 | 3.0e-05 | 20 | 12 | 9 |" in text
    head, rule, line = [line for line in text.splitlines() if line.startswith("|")][:3]
    assert head.count("|") == rule.count("|") == line.count("|")
    assert "auto over the best of our methods, at most 1.10 (N = 100, tolerance 1e-4)." in summary(records)
    assert "the quickest other over auto, at least 2.73 (N = 100, tolerance 1e-4)." in summary(records)


def test_the_table_fits_a_terminal(records: list[ElectrostaticsRecord]) -> None:
    large = [replace(record, charges=30000, median_ms=12345.6, listed_ms=12345.6) for record in records]
    console = Console(width=80)
    with console.capture() as capture:
        for table in electrostatics_tables(large):
            console.print(table)
    text = capture.get()
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
    for name in ("chebyshev_tucker", "torch-pme ewald", "left out", "30000", "1e-6"):
        assert name in text


def test_figures_are_drawn(tmp_path: Path, records: list[ElectrostaticsRecord]) -> None:
    ranks = [RankRecord("open", 100, 6.0, tolerance, 20, 12, 9, tolerance) for tolerance in (1e-2, 1e-4)]
    drawn = draw_electrostatics(tmp_path, records, ranks)
    assert [path.name for path in drawn] == ["error_against_time.png", "time_against_size.png", "ranks.png"]
    for path in drawn:
        picture = imread(path)
        assert picture.shape[0] > 200
        assert picture.std() > 0.01


def test_the_command_writes_what_it_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "RANK_TOLERANCES", (1e-2,))
    command = ["bench", "electrostatics", "--quick", "--charges", "60", "--tolerances", "1e-3", "--boundaries", "open"]
    result = CliRunner().invoke(app, [*command, "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "auto over the best of our methods" in result.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"results.json", "results.csv", "ranks.json", "ranks.csv", "table.md", "ranks.png"} <= names
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [record["contender"] for record in content["records"]][:2] == ["auto", "direct"]
    assert content["environment"]["threads"] == 1


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--charges", "ten", "the numbers of charges are 'ten'"),
        ("--tolerances", "1e-14", "the tolerances are '1e-14'"),
        ("--tolerances", "small", "the tolerances are 'small'"),
        ("--boundaries", "slab", "slab"),
        ("--memory-limit", "0", "the memory limit is 0"),
        ("--time-limit", "-1", "the time limit is -1"),
    ],
)
def test_bad_options_are_explained(option: str, value: str, said: str) -> None:
    result = CliRunner().invoke(app, ["bench", "electrostatics", option, value])
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.skipif(not peer.installed(), reason="torch-pme is not installed")
def test_references_are_those_of_torch_pme() -> None:
    box = charged_box("periodic", 100)
    truth = reference(box, GIB).found
    found = peer.tight_ewald(box)
    assert force_error(found, truth) < 1e-11
    assert energy_error(found, truth) < 1e-11


@pytest.mark.skipif(not peer.installed(), reason="torch-pme is not installed")
@pytest.mark.parametrize("method", peer.METHODS)
def test_torch_pme_is_tuned_to_the_tolerance(method: str) -> None:
    box = charged_box("periodic", 200)
    truth = reference(box, GIB).found
    tuned = peer.Tuner(10.0, GIB).tune(method, box, truth, 1e-3)
    error = force_error(tuned.solve(box.positions, tuned.pairs(box.positions)), truth)
    # Much less would cost it time.
    assert 1e-4 < error <= 1e-3


def _quiet(text: str) -> None:
    pass
