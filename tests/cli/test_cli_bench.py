"""`mlip bench`."""

import csv
import json

import pytest

from mlip.benchmarks import products, roofline


@pytest.fixture(autouse=True)
def small_machine(monkeypatch):
    """The machine's peak is of no interest here, and takes seconds to measure."""
    monkeypatch.setattr(roofline, "_MATRIX_SIZE", {"cpu": 32})
    monkeypatch.setattr(roofline, "_COPY_BYTES", {"cpu": 4096})


SMALL = ("bench", "tensor-products", "--channels", 2, "--batch", 10, "--quick", "--backends", "clebsch_gordan,e3nn")


def test_tensor_products(run, tmp_path):
    output = tmp_path / "new" / "results"
    options = ("--degrees", "1,2", "--settings", "siso", "--passes", "forward,full", "--threads", 1)
    result = run(*SMALL, *options, "-o", output)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    for fact in ("SISO", "clebsch_gordan", "× e3nn", "Skipped, for reasons in table.md: 2", str(output)):
        assert fact in result.stdout
    files = {path.name for path in output.iterdir()}
    assert files == {
        "results.json",
        "results.csv",
        "table.md",
        "time_forward.png",
        "time_full.png",
        "time_per_path.png",
        "time_per_expressivity.png",
    }
    content = json.loads((output / "results.json").read_text())
    assert content["environment"]["threads"] == 1
    measured = [each for each in content["records"] if not each["reason"]]
    # Degree 1 has no Gaunt path.
    assert len(measured) == (2 + 1) * 2 * 2
    with (output / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(content["records"])
    assert {row["device"] for row in rows} == {content["environment"]["device"]}
    assert "no path in the setting siso at degree 1" in (output / "table.md").read_text()


def test_interrupted_run_keeps_what_it_has(run, tmp_path, monkeypatch):
    measure = products._run_degree

    def interrupted(plan, setting, degree, roofline):
        if degree == 2:
            raise KeyboardInterrupt
        return measure(plan, setting, degree, roofline)

    monkeypatch.setattr(products, "_run_degree", interrupted)
    result = run(*SMALL, "--degrees", "1-3", "--settings", "mimo", "-o", tmp_path)
    assert result.exit_code == 130
    assert f"What was measured so far is in {tmp_path}." in result.stderr
    assert {each["degree"] for each in json.loads((tmp_path / "results.json").read_text())["records"]} == {1}


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (("--degrees", "0-2"), "the degrees hold 0"),
        (("--degrees", "11"), "the degrees hold 11"),
        (("--degrees", "one"), "the degrees are 'one'"),
        (("--settings", "miso"), "unknown setting 'miso'"),
        (("--couplings", "gaunt,gount"), "unknown coupling 'gount'"),
        (("--passes", "forwards"), "unknown pass 'forwards': did you mean 'forward'"),
        (("--backends", "clebsh_gordan"), "unknown backend 'clebsh_gordan': did you mean 'clebsch_gordan'"),
        (("--backends", "clebsch_gordan:algoritm=x"), "has no option 'algoritm'"),
        (("--backends", "spherical_grid", "--couplings", "clebsch_gordan"), "nothing could be measured"),
        (("--device", "cuda:7"), "GPUs are there"),
        (("--device", "abacus"), "no device 'abacus'"),
        (("--channels", 0), "channels is 0"),
        (("--batch", 0), "batch is 0"),
        (("--memory-limit", 0), "the memory limit is 0.0 GiB"),
        (("--memory-limit", 1e-9), "more than the limit of 1e-09 GiB"),
    ],
)
def test_mistakes_are_one_sentence(fails, tmp_path, options, fact):
    assert fact in fails(*SMALL, "--degrees", "1", "--settings", "mimo", "-o", tmp_path, *options)
