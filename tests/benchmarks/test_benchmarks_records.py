"""Records as JSON and CSV, and the roofline that is among them."""

import csv
import json
from dataclasses import asdict

import pytest
import torch

import mlip
from mlip.benchmarks import roofline
from mlip.benchmarks.records import Environment, Record, failure, write_csv, write_json
from mlip.benchmarks.roofline import Roofline, measure_roofline
from mlip.errors import ConfigError


def test_json_round_trip(tmp_path, environment, records):
    path = tmp_path / "new" / "results.json"
    write_json(path, environment, records)
    content = json.loads(path.read_text())
    assert Environment(**content["environment"]) == environment
    assert [Record(**each) for each in content["records"]] == records
    assert [each.name for each in path.parent.iterdir()] == ["results.json"]


def test_csv_repeats_the_machine(tmp_path, environment, records):
    write_csv(tmp_path / "results.csv", environment, records)
    with (tmp_path / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(records)
    for line, record in zip(lines, records, strict=True):
        assert line["device"] == "a slide rule, 1 cores"
        assert (line["date"], line["mlip_version"], line["commit"]) == (environment.date, "0.1.0", "abc123")
        assert (line["torch_version"], line["threads"]) == ("2.7.0", "1")
        expected = {name: "" if value is None else str(value) for name, value in asdict(record).items()}
        assert {name: line[name] for name in expected} == expected


def test_environment_of_this_machine():
    found = Environment.now(torch.device("cpu"), Roofline(2e11, 3e10))
    assert (found.peak_gflops, found.copy_gbytes) == (200.0, 30.0)
    assert found.threads == torch.get_num_threads()
    assert (found.mlip_version, found.torch_version) == (mlip.__version__, torch.__version__)
    assert "cores" in found.device
    assert Environment.now(torch.device("cpu")).peak_gflops is None


def test_failures_are_one_line():
    assert failure(ConfigError("a sentence.")) == "a sentence."
    assert failure(RuntimeError("first\nsecond")) == "RuntimeError: first"
    assert failure(NotImplementedError()) == "NotImplementedError"


def test_attainable_is_the_lower_of_two_bounds():
    machine = Roofline(flops=100e9, bandwidth=10e9)
    assert machine.attainable(flops=1000, nbytes=1000) == 10e9  # one flop a byte: memory
    assert machine.attainable(flops=10_000, nbytes=1000) == 100e9  # the ridge
    assert machine.attainable(flops=1_000_000, nbytes=1000) == 100e9  # arithmetic


def test_roofline_counts(monkeypatch):
    """With a stopwatch on which every call takes a millisecond, rates are the counts themselves."""
    monkeypatch.setattr(roofline, "_MATRIX_SIZE", {"cpu": 16})
    monkeypatch.setattr(roofline, "_COPY_BYTES", {"cpu": 4096})
    monkeypatch.setattr(roofline.Stopwatch, "time", lambda self, step: (step()(), 1e-3)[1])
    for dtype in (torch.float32, torch.float64):
        found = measure_roofline(torch.device("cpu"), dtype)
        assert found.flops == pytest.approx(2 * 16**3 / 1e-3)
        assert found.bandwidth == pytest.approx(2 * 4096 / 1e-3)
