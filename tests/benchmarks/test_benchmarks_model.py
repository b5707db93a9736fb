"""The benchmark of models, and the boxes of water it runs on."""

import numpy as np
import pytest
import torch
from ase import units
from ase.neighborlist import neighbor_list

from mlip.benchmarks import model as benchmark
from mlip.benchmarks.contenders import Request
from mlip.benchmarks.model import AS_IT_IS, MEASUREMENTS, build_models, run_models
from mlip.benchmarks.model_tables import model_markdown, model_table
from mlip.benchmarks.water import DENSITY, water_box
from mlip.calculators import MLIPCalculator
from mlip.models import build_model, parse_model_config

CPU = torch.device("cpu")
SMALL = {"architecture": "mace", "elements": ["H", "O"], "hidden_irreps": "4x0e+4x1o", "l_max": 1, "layers": 1}
CONFIG = {**SMALL, "correlation": 2, "cutoff": 3.0, "radial_hidden": [8]}


@pytest.mark.parametrize(("wanted", "atoms"), [(1, 3), (64, 66), (192, 192)])
def test_water_is_water(wanted, atoms):
    box = water_box(wanted, ["H", "O"])
    assert len(box) == atoms
    assert box.get_chemical_formula(empirical=True) == "H2O"
    assert box.pbc.all()
    assert len(box) / box.get_volume() == pytest.approx(DENSITY)
    bonds = np.linalg.norm(box.positions[1::3] - box.positions[::3], axis=1)
    np.testing.assert_allclose(bonds, 0.96)
    for oxygen in range(0, atoms, 3):
        assert box.get_angle(oxygen + 1, oxygen, oxygen + 2) == pytest.approx(104.5)
    assert neighbor_list("d", box, 0.6).size == 0


def test_water_is_always_the_same_and_of_any_elements():
    np.testing.assert_array_equal(water_box(30, ["H", "O"]).positions, water_box(30, ["H", "O"]).positions)
    assert not np.array_equal(water_box(30, ["H", "O"]).positions, water_box(30, ["H", "O"], seed=1).positions)
    assert water_box(3, ["C", "Si"]).get_chemical_symbols() == ["Si", "C", "C"]
    assert water_box(3, ["H", "C", "O", "S"]).get_chemical_symbols() == ["O", "H", "H"]


def test_records_of_a_model():
    models, refused = build_models(parse_model_config(CONFIG), [], "float32", CPU)
    assert not refused
    (found,) = run_models(models, [6], CPU, seconds=0.0, call_limit=60.0)
    assert [each.measured for each in found] == ["forces", "ase", "training"]
    for each in found:
        assert (each.contender, each.atoms, each.dtype, each.reason) == (AS_IT_IS, 6, "float32", "")
        assert each.edges > 0
        assert 0 < each.p20_ms <= each.median_ms <= each.p80_ms
        assert each.us_per_atom == pytest.approx(1e3 * each.median_ms / 6)
    assert found[0].ns_per_day is None
    # A day has 86.4e6 ms, a step is 0.5e-6 ns.
    assert found[1].ns_per_day == pytest.approx(86.4e6 / found[1].mean_ms * 0.5e-6)
    assert found[0].parameters == sum(parameter.numel() for parameter in build_model(CONFIG).parameters())


def test_simulation_steps_are_a_simulations(monkeypatch):
    """Atoms move at thermal speed, come back, and every step is a calculation of its own."""
    potential = build_model(CONFIG)
    box = water_box(192, potential.elements)
    start = box.positions.copy()
    calls = []
    calculate = MLIPCalculator.calculate
    monkeypatch.setattr(MLIPCalculator, "calculate", lambda self, *a, **k: (calls.append(1), calculate(self, *a, **k)))
    step = benchmark._ase_step(potential, box)
    forces = step()()
    assert forces.shape == (192, 3)
    moved = (box.positions - start) / (0.5 * units.fs)
    temperature = (box.get_masses()[:, None] * moved**2).mean() / units.kB
    assert temperature == pytest.approx(300.0, rel=0.15)
    for _ in range(2 * benchmark._STEPS_ONE_WAY - 1):
        step()
    np.testing.assert_allclose(box.positions, start, atol=1e-10)
    step()()
    assert len(calls) == 2


def test_training_step_fills_every_gradient():
    potential = build_model(CONFIG)
    step = benchmark._training_step(potential, water_box(6, potential.elements))
    step()()
    first = [parameter.grad.clone() for parameter in potential.parameters()]
    assert all(gradient.abs().max() > 0 for gradient in first)
    step()()
    for gradient, parameter in zip(first, potential.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, gradient)  # not added up


def test_backends_of_a_configuration_and_of_a_model():
    requests = [Request("spherical_grid"), Request("clebsch_gordan"), Request("no_such"), Request("cp", {"seed": 1})]
    models, refused = build_models(parse_model_config(CONFIG), requests, "float64", CPU)
    assert [each.record.contender for each in models] == [AS_IT_IS, "spherical_grid"]
    assert models[0].record.function == ("convolution: clebsch_gordan, per_path; contraction: clebsch_gordan, per_path")
    assert models[1].record.function == "convolution: gaunt, per_degree; contraction: gaunt, per_degree"
    assert {each.potential.dtype for each in models} == {torch.float64}
    reasons = {each.contender: each.reason for each in refused}
    assert "is the model as it is" in reasons["clebsch_gordan"]
    assert "no_such" in reasons["no_such"]
    assert "seed" in reasons["cp:seed=1"]

    gaunt = build_model({**CONFIG, "tensor_product": {"backend": "gaunt_fourier"}}, "float64")
    models, refused = build_models(
        gaunt, [Request("spherical_grid"), Request("matrix"), Request("cp", {"rank": 3})], "float64", CPU
    )
    assert [each.record.contender for each in models] == [AS_IT_IS, "spherical_grid"]
    assert models[0].record.function == models[1].record.function
    graph = benchmark.build_graph(benchmark.Structure.from_atoms(water_box(6, gaunt.elements)), gaunt.cutoff)
    first, second = (each.potential.eval()(graph, forces=False).energy for each in models)
    torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-9)
    assert "computes none of the model's products" in refused[0].reason
    assert "which a model keeps" in refused[1].reason


def test_slow_and_broken_measurements_are_left_out(monkeypatch):
    models, _ = build_models(parse_model_config(CONFIG), [], "float32", CPU)
    (found,) = run_models(models, [3], CPU, seconds=0.0, call_limit=0.0)
    assert all(each.reason.startswith("one call took") and each.median_ms is None for each in found)
    monkeypatch.setitem(MEASUREMENTS, "ase", lambda potential, box: lambda: 1 / 0)
    (found,) = run_models(models, [3], CPU, seconds=0.0, call_limit=60.0)
    assert {each.measured: each.reason for each in found} == {
        "forces": "",
        "training": "",
        "ase": "ZeroDivisionError: division by zero",
    }


def test_tables(environment):
    record = benchmark.ModelRecord("spherical_grid", "forces", function="gaunt everywhere", dtype="float32")
    numbers = {"parameters": 12345, "atoms": 6, "edges": 78}
    forces = benchmark.replace(record, **numbers, median_ms=2.0, p20_ms=1.5, p80_ms=3.0, us_per_atom=333.3)
    ase = benchmark.replace(forces, measured="ase", median_ms=4.0, ns_per_day=10.8)
    skipped = benchmark.replace(record, contender="cp", reason="no such thing.")
    text = model_markdown(environment, [forces, ase, skipped])
    (line,) = [line for line in text.splitlines() if "spherical_grid" in line]
    assert line == ("| 6 | 78 | spherical_grid | 2 (1.5–3) | 333 | 4 (1.5–3) | 10.8 | – | 12,345 | gaunt everywhere |")
    assert "- cp (forces): no such thing." in text
    table = model_table([forces, ase, skipped])
    assert table.row_count == 1
    assert table.caption == "a: gaunt everywhere"
