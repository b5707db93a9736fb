"""The benchmark of models, and the boxes of water it runs on."""

import numpy as np
import pytest
import torch
from ase import units
from ase.neighborlist import neighbor_list

from mlip.benchmarks import model as benchmark
from mlip.benchmarks.contenders import Request
from mlip.benchmarks.model import AS_IT_IS, COMPILED, MEASUREMENTS, build_models, run_models
from mlip.benchmarks.model_steps import STEPS_ONE_WAY, ase_step, training_step
from mlip.benchmarks.model_tables import model_markdown, model_table, share_tables
from mlip.benchmarks.water import DENSITY, water_box
from mlip.calculators import MLIPCalculator
from mlip.models import build_model, parse_model_config
from mlip_kernels.inference.tally import tally

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
    (found,) = run_models(models, [6], CPU, seconds=0.0, call_limit=60.0, peak_flops=1e15)
    own = [(AS_IT_IS, "forces"), (AS_IT_IS, "ase"), (AS_IT_IS, "training"), (COMPILED, "forces"), (COMPILED, "ase")]
    assert [(each.contender, each.measured) for each in found] == own
    for each in found:
        assert (each.atoms, each.dtype, each.reason) == (6, "float32", "")
        assert each.edges > 0
        assert 0 < each.p20_ms <= each.median_ms <= each.p80_ms
        assert each.us_per_atom == pytest.approx(1e3 * each.median_ms / 6)
    assert found[0].ns_per_day is None
    # A day has 86.4e6 ms, a step is 0.5e-6 ns.
    assert found[1].ns_per_day == pytest.approx(86.4e6 / found[1].mean_ms * 0.5e-6)
    assert found[0].parameters == sum(parameter.numel() for parameter in build_model(CONFIG).parameters())
    assert all(each.gflops is None for each in found[:3])
    compiled = models[1].calculator.compiled
    for each in found[3:]:
        # 1e9 flops a second and 1e-3 s.
        assert each.gflops * each.median_ms * 1e6 == pytest.approx(tally(compiled.program.network).total(6, each.edges))
        assert each.peak_fraction == pytest.approx(each.gflops * 1e9 / 1e15)
    assert sum(found[3].time_shares.values()) == pytest.approx(1.0)
    assert list(found[3].time_shares) == ["layer 1"]
    assert sum(found[3].flop_shares.values()) == pytest.approx(1.0)
    assert found[4].time_shares is None


def test_memory_of_a_calculation_grows_with_atoms():
    models, _ = build_models(parse_model_config(CONFIG), [], "float32", CPU)
    fits = [benchmark._atoms_per_gib(models[1].calculator, water_box(atoms, ["H", "O"])) for atoms in (3000, 6000)]
    if None in fits:
        pytest.skip("the system does not tell the memory of a process")
    # A GiB holds 5e4 to 5e6 atoms of 0.2 to 20 kB; that of twice the atoms is not that of twice the memory for each.
    assert all(5e4 < each < 5e6 for each in fits)
    assert fits[1] == pytest.approx(fits[0], rel=0.5)


def test_simulation_steps_are_a_simulations(monkeypatch):
    """Atoms move at thermal speed, come back, and every step is a calculation of its own."""
    potential = build_model(CONFIG)
    box = water_box(192, potential.elements)
    start = box.positions.copy()
    calls = []
    calculate = MLIPCalculator.calculate
    monkeypatch.setattr(MLIPCalculator, "calculate", lambda self, *a, **k: (calls.append(1), calculate(self, *a, **k)))
    step = ase_step(MLIPCalculator(potential, compile=False), box)
    forces = step()()
    assert forces.shape == (192, 3)
    moved = (box.positions - start) / (0.5 * units.fs)
    temperature = (box.get_masses()[:, None] * moved**2).mean() / units.kB
    assert temperature == pytest.approx(300.0, rel=0.15)
    for _ in range(2 * STEPS_ONE_WAY - 1):
        step()
    np.testing.assert_allclose(box.positions, start, atol=1e-10)
    step()()
    assert len(calls) == 2


def test_training_step_fills_every_gradient():
    potential = build_model(CONFIG)
    step = training_step(potential, water_box(6, potential.elements))
    step()()
    first = [parameter.grad.clone() for parameter in potential.parameters()]
    assert all(gradient.abs().max() > 0 for gradient in first)
    step()()
    for gradient, parameter in zip(first, potential.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, gradient)  # not added up


def test_backends_of_a_configuration_and_of_a_model():
    requests = [Request("spherical_grid"), Request("clebsch_gordan"), Request("no_such"), Request("cp", {"seed": 1})]
    models, refused = build_models(parse_model_config(CONFIG), requests, "float64", CPU)
    assert [each.record.contender for each in models] == [AS_IT_IS, COMPILED, "spherical_grid"]
    assert models[0].record.function == ("convolution: clebsch_gordan, per_path; contraction: clebsch_gordan, per_path")
    assert models[2].record.function == "convolution: gaunt, per_degree; contraction: gaunt, per_degree"
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
    assert "which are not compiled" in refused[0].reason
    assert "computes none of the model's products" in refused[1].reason
    assert "which a model keeps" in refused[2].reason


def test_slow_and_broken_measurements_are_left_out(monkeypatch):
    models, _ = build_models(parse_model_config(CONFIG), [], "float32", CPU)
    (found,) = run_models(models, [3], CPU, seconds=0.0, call_limit=0.0)
    assert all(each.reason.startswith("one call took") and each.median_ms is None for each in found)
    monkeypatch.setitem(MEASUREMENTS, "ase", lambda model, box: lambda: 1 / 0)
    (found,) = run_models(models[:1], [3], CPU, seconds=0.0, call_limit=60.0)
    assert {each.measured: each.reason for each in found} == {
        "forces": "",
        "training": "",
        "ase": "ZeroDivisionError: division by zero",
    }


def test_tables(environment):
    record = benchmark.ModelRecord("spherical_grid", "forces", function="gaunt everywhere", dtype="float32")
    numbers = {"parameters": 12345, "atoms": 6, "edges": 78}
    forces = benchmark.replace(record, **numbers, median_ms=2.0, p20_ms=1.5, p80_ms=3.0, us_per_atom=333.3)
    ase = benchmark.replace(
        forces, measured="ase", median_ms=4.0, ns_per_day=10.8, peak_fraction=0.42, atoms_per_gib=51234.5
    )
    shares = {"layer 1 convolution": 0.75, "layer 1 maps": 0.25}
    forces = benchmark.replace(forces, flop_shares=shares)
    skipped = benchmark.replace(record, contender="cp", reason="no such thing.")
    text = model_markdown(environment, [forces, ase, skipped])
    (line,) = [line for line in text.splitlines() if line.startswith("| 6 ")]
    times = "2 (1.5–3) | 4 (1.5–3) | 333 | 10.8 | 42% | 51,234 | –"
    assert line == f"| 6 | 78 | spherical_grid | {times} | 12,345 | gaunt everywhere |"
    assert "- cp (forces): no such thing." in text
    assert "## Arithmetic of spherical_grid, 6 atoms\n\n" in text
    assert "| layer 1 convolution | 75.0% |" in text
    (shown,) = share_tables([forces, ase, skipped])
    assert (shown.title, shown.row_count) == ("Arithmetic of spherical_grid, 6 atoms", 2)
    table = model_table([forces, ase, skipped])
    assert table.row_count == 1
    assert table.caption == "a: gaunt everywhere"
