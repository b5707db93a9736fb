"""What the tests of the benchmarks share: records that no machine has measured."""

from dataclasses import replace

import pytest

from mlip.benchmarks.records import Environment, Record


@pytest.fixture
def environment() -> Environment:
    """A machine that does not exist."""
    return Environment(
        device="a slide rule, 1 cores",
        threads=1,
        date="2026-01-02T03:04:05+00:00",
        mlip_version="0.1.0",
        commit="abc123",
        torch_version="2.7.0",
        peak_gflops=100.0,
        copy_gbytes=10.0,
    )


@pytest.fixture
def records() -> list[Record]:
    """Two couplings, two contenders, two degrees; times are the degree in ms, half of it for e3nn with gaunt."""
    blank = Record("mimo", 1, "clebsch_gordan", "none", "elementwise", 4, 10, "float32", "e3nn")
    found = []
    for degree in (1, 2):
        for coupling, remark in (("clebsch_gordan", ""), ("gaunt", "even paths only, 5 of 6 paths")):
            for contender, factor in (("e3nn", 0.5 if coupling == "gaunt" else 2.0), ("clebsch_gordan", 1.0)):
                common = replace(blank, degree=degree, coupling=coupling, contender=contender, differs=remark)
                common = replace(common, exact=True, paths=5, expressivity=1, error=1e-7)
                for measured in ("forward", "double_backward"):
                    time = factor * degree
                    timed = replace(common, measured=measured, median_ms=time, p20_ms=0.9 * time, p80_ms=1.2 * time)
                    found.append(replace(timed, rounds=5))
    return [
        *found,
        replace(blank, contender="cp", reason="it would take about 9 GiB"),
        replace(blank, contender="cp", degree=2, reason="it would take about 9 GiB"),
    ]
