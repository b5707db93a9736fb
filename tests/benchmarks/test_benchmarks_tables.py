"""Tables and figures of records."""

from dataclasses import replace

import pytest
from matplotlib.image import imread
from rich.console import Console

from mlip.benchmarks.plots import draw
from mlip.benchmarks.tables import console_tables, markdown, rows


def test_rows_compare_the_same_paths_only(records):
    found = {(row.common.coupling, row.common.degree, row.common.contender): row for row in rows(records)}
    assert len(found) == 8
    # e3nn takes twice the time with the coupling clebsch_gordan and half of it with gaunt.
    assert found["clebsch_gordan", 1, "clebsch_gordan"].of_e3nn == pytest.approx(2.0)
    assert found["gaunt", 2, "clebsch_gordan"].of_e3nn == pytest.approx(0.5)
    assert found["gaunt", 2, "e3nn"].of_e3nn == 1.0


def test_the_fastest_comes_first(records):
    order = [(row.common.degree, row.common.coupling, row.common.contender) for row in rows(records)]
    assert order[:4] == [
        (1, "clebsch_gordan", "clebsch_gordan"),
        (1, "clebsch_gordan", "e3nn"),
        (1, "gaunt", "e3nn"),
        (1, "gaunt", "clebsch_gordan"),
    ]


def test_without_e3nn_there_is_no_ratio(records):
    assert {row.of_e3nn for row in rows([each for each in records if each.contender != "e3nn"])} == {None}


def test_markdown_says_where_contenders_differ(environment, records):
    text = markdown(environment, records)
    head, rule, *lines = [line for line in text.splitlines() if line.startswith("|")]
    assert head.count("|") == rule.count("|") == lines[0].count("|")
    assert len(lines) == 8
    for line in lines:
        assert ("even paths only, 5 of 6 paths" in line) == ("| gaunt |" in line)
    assert "1 (0.9–1.2)" in text
    assert "double backward ms" in head
    assert "full ms" not in head
    assert "Large matrix product 100 GF/s, large copy 10 GB/s" in text
    assert "10 rows of 4 channels, float32, weights none" in text
    assert "- cp (clebsch_gordan) in mimo 1, mimo 2: it would take about 9 GiB" in text


def test_nothing_skipped_is_not_mentioned(environment, records):
    assert "Skipped" not in markdown(environment, [each for each in records if not each.reason])


def test_console_fits_a_terminal(records):
    console = Console(width=80, record=True, file=None, quiet=False)
    with console.capture() as capture:
        for table in console_tables(records):
            console.print(table)
    text = capture.get()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert text.count("MIMO") == 2
    assert text.count("a: even paths only") == 1
    assert "…" not in text.replace("0 … ", "")


def test_figures(tmp_path, records):
    drawn = {path.name for path in draw(tmp_path, records)}
    assert drawn == {"time_forward.png", "time_double_backward.png", "time_per_path.png"}
    ranks = [
        replace(each, contender=f"cp:rank={rank}", exact=False, error=10.0**-rank, expressivity=4)
        for each in records
        for rank in (1, 2)
        if each.contender == "clebsch_gordan" and each.measured == "forward"
    ]
    drawn = {path.name for path in draw(tmp_path, ranks)}
    assert drawn == {"time_forward.png", "time_per_path.png", "time_per_expressivity.png", "error_against_time.png"}
    for path in tmp_path.iterdir():
        image = imread(path)
        assert image.shape[1] > 400
        assert image[..., :3].std() > 0.01
