"""The report: whole HTML that needs nothing from elsewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlip.data.structures import Structure
from mlip.training.config import TrainingConfig
from mlip.training.evaluation import Evaluation
from mlip.training.metrics import ErrorTable
from mlip.training.report import Report

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Checker(HTMLParser):
    """Collects the structure of a page and everything that it refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.note(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.note(attrs)

    def note(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
                self.references.append(value or "")
            self.references += re.findall(r"url\(([^)]*)\)", value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def make_report(config: TrainingConfig, forces: int = 600, **names: Any) -> Report:
    rng = np.random.default_rng(0)
    rows = [
        {"epoch": float(i), "train_loss": 1 / i, "validation_loss": 1.1 / i, "learning_rate": 0.01, "seconds": 2.0}
        | {f"{name}_{kind}": 0.1 / i for name in ("energy_per_atom", "forces", "stress") for kind in ("mae", "rmse")}
        for i in range(1, 9)
    ]
    errors = ErrorTable()
    for kind in ("water", "a & <b>"):
        structure = Structure(np.array([1]), np.zeros((1, 3)), energy=1.0, forces=np.zeros((1, 3)), config_type=kind)
        errors.add(structure, 1.25, np.full((1, 3), 0.0375))
    pairs = [np.repeat(rng.normal(size=(n, 1)), 2, axis=1) + rng.normal(scale=0.05, size=(n, 2)) for n in (40, forces)]
    evaluation = Evaluation(errors, *pairs, np.zeros((0, 2)))
    provenance = {
        "training_files": ["train.xyz"],
        "training_frames": 24,
        "validation_frames": 6,
        "parameters": 12345,
        "seed": 7,
        "package_version": "1.2.3",
        "commit": "abcdef123456",
        "date": "2026-01-02T03:04:05+00:00",
        "machine": "A processor, 2 cores",
        "processes": 1,
        "threads": 2,
        "torch_version": "2.7",
    }
    return Report(config, rows, 7, provenance, {"validation": evaluation, "test <1>.xyz": evaluation})


@pytest.fixture
def page(config: Any, tmp_path: Path) -> str:
    make_report(config()).write(tmp_path / "report.html")
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_every_element_is_closed(page: str) -> None:
    assert page.startswith("<!DOCTYPE html>")
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert checker.tags.count("html") == checker.tags.count("body") == 1


def test_nothing_is_fetched_and_nothing_runs(page: str) -> None:
    checker = Checker()
    checker.feed(page)
    assert checker.references
    assert all(reference.startswith(("#", "data:image/png;base64,")) for reference in checker.references)
    assert "script" not in checker.tags
    assert "@import" not in page


def test_report_tells_what_it_should(page: str) -> None:
    checker = Checker()
    checker.feed(page)
    for words in (
        "Learning curves", "Errors", "Parity", "Configuration", "hidden_irreps: 4x0e+4x1o", "Seed", "7",
        "abcdef123456", "A processor, 2 cores", "water", "a & <b>", "test <1>.xyz", "37.50", "250.00", "Forces",
        "16 s",
    ):  # fmt: skip
        assert words in checker.text, words
    # Three learning curves with stress the fourth, and two parity plots for either data set.
    assert checker.tags.count("svg") == 4 + 2 * 2


def test_report_of_many_frames_stays_small(config: Any, tmp_path: Path) -> None:
    make_report(config(), forces=200_000).write(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 3e6


def test_single_epoch_and_perfect_model_can_be_drawn(config: Any, tmp_path: Path) -> None:
    report = make_report(config())
    same = np.ones((1, 2))
    evaluation = Evaluation(next(iter(report.evaluations.values())).errors, same, same, same)
    Report(config(), report.rows[:1], 1, report.provenance, {"validation": evaluation}).write(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text().count("<svg") == 4 + 3
