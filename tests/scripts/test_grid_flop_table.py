"""The table of counted operations: the published counts, the formula that explains them, and ours."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def script(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("grid_flop_table", repository / "scripts" / "grid_flop_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_formula_gives_every_published_count(script: ModuleType) -> None:
    assert len(script.PUBLISHED) == 10
    assert tuple(map(script.explained_flops, range(1, 11))) == script.PUBLISHED


def test_ours_in_closed_form_beside_theirs(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    script.print_flops()
    header, rule, *lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert header.count("|") == rule.count("|") == lines[0].count("|")
    for l_max, (degree, nodes, dense, separable, published, formula) in enumerate(rows, 1):
        theta, phi = 2 * l_max + 1, 4 * l_max + 1
        inner, outer = (l_max + 1) ** 2, (2 * l_max + 1) ** 2
        assert (degree, nodes) == (str(l_max), f"{theta} × {phi}")
        assert int(dense) == theta * phi * (2 * (inner + inner + outer) + 1)
        # The θ tables hold as many components for every order as for order 0; the series are [φ, orders] each.
        legendre = 2 * (2 * l_max + 1) * (l_max + 1) + (4 * l_max + 1) * (2 * l_max + 1)
        fourier = phi * (2 * (2 * l_max + 1) + 4 * l_max + 1)
        assert int(separable) == 2 * theta * (legendre + fourier) + theta * phi
        assert published == formula
    assert int(rows[3][2]) < int(rows[3][4])


def test_times_are_measured_in_turn(script: ModuleType) -> None:
    order: list[str] = []
    shortest = script.seconds([lambda: order.append("a"), lambda: order.append("b")])
    assert order == ["a", "b"] * script.MEASUREMENTS
    assert all(0 < each < 1 for each in shortest)
