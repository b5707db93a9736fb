"""The suite of tensor products, run on problems so small that they take milliseconds."""

import math
from dataclasses import replace

import pytest
import torch

from mlip.benchmarks import products
from mlip.benchmarks.contenders import Request
from mlip.benchmarks.products import Plan, run_plan
from mlip.benchmarks.roofline import Roofline
from mlip.tensor_products import TensorProduct, expressivity, interactability

ROOFLINE = Roofline(1e11, 1e10)


def plan(**changes) -> Plan:
    values = {
        "settings": ["mimo"],
        "degrees": [1],
        "couplings": ["clebsch_gordan"],
        "weights": "none",
        "mode": "elementwise",
        "channels": 2,
        "batch": 20,
        "dtype": torch.float32,
        "device": torch.device("cpu"),
        "requests": [Request("clebsch_gordan")],
        "passes": ["forward"],
        "memory_limit": 2.0**30,
        "seconds": 0.0,
        "call_limit": 60.0,
    }
    return Plan(**(values | changes))


def run(**changes):
    return [record for found in run_plan(plan(**changes), ROOFLINE) for record in found]


def test_every_pass_of_every_contender():
    found = run(
        settings=["siso"],
        degrees=[1, 2],
        couplings=["clebsch_gordan", "gaunt"],
        requests=[Request("clebsch_gordan"), Request("e3nn")],
        passes=["forward", "backward", "double_backward", "full"],
    )
    measured = [each for each in found if not each.reason]
    # Degree 1 alone has no Gaunt path in the setting siso.
    assert len(measured) == (2 * 2 - 1) * 2 * 4
    assert all(each.p20_ms <= each.median_ms <= each.p80_ms for each in measured)
    assert all(each.median_ms > 0 and each.rounds == 5 and each.peak_memory_mb > 0 for each in measured)
    assert all(each.error < 1e-6 for each in measured)
    skipped = [each for each in found if each.reason]
    assert {(each.setting, each.degree, each.coupling, each.contender) for each in skipped} == {
        ("siso", 1, "gaunt", "clebsch_gordan"),
        ("siso", 1, "gaunt", "e3nn"),
    }


def test_rates_follow_from_counts_and_time():
    (record,) = run(weights="per_path", mode="channelwise", batch=50)
    product = TensorProduct("2x0e+2x1e", "0e+1e", "2x0e+2x1e+2x2e", mode="channelwise")
    work = product.work(50)
    assert (record.flops, record.bytes) == (work.flops, work.bytes)
    assert record.gflops == pytest.approx(work.flops / record.median_ms / 1e6)
    assert record.gbytes == pytest.approx(work.bytes / record.median_ms / 1e6)
    bound = min(1e11, work.flops / work.bytes * 1e10)
    assert record.roofline_fraction == pytest.approx(1e9 * record.gflops / bound)


def test_backward_passes_have_no_rates():
    (record,) = run(passes=["backward"])
    assert (record.gflops, record.gbytes, record.roofline_fraction) == (None, None, None)
    assert record.flops > 0


@pytest.mark.parametrize("weights", ["none", "per_path", "per_degree", "shared"])
@pytest.mark.parametrize("coupling", ["clebsch_gordan", "gaunt"])
def test_expressivity_and_interactions_are_those_of_the_product(coupling, weights):
    ours, other = run(
        degrees=[2], couplings=[coupling], weights=weights, requests=[Request("clebsch_gordan"), Request("e3nn")]
    )
    outputs = "2x0e+2x1e+2x2e+2x3e+2x4e"
    product = TensorProduct(
        "2x0e+2x1e+2x2e", "2x0e+2x1e+2x2e", outputs, coupling=coupling, weights=weights, mode="elementwise"
    )
    assert ours.paths == other.paths == len(product.paths)
    assert ours.expressivity == expressivity(product)
    assert ours.interactions == other.interactions == len(interactability(product))
    # e3nn has weights per path or none.
    assert other.expressivity == (1 if weights == "none" else len(product.paths))


def test_what_takes_too_much_memory_is_skipped():
    (record,) = run(memory_limit=10_000.0, batch=1000)
    assert record.reason.startswith("it would take about")
    assert "limit of 9.3e-06 GiB" in record.reason
    # The operands fit, and what the product needs besides does not.
    (record,) = run(memory_limit=2.0 * 1000 * 2 * (4 + 4 + 9) * 4, batch=1000)
    assert record.reason.startswith("it would take about")
    assert run(memory_limit=2.0**26, batch=1000)[0].reason == ""


def test_the_estimate_is_near_the_peak():
    """What a few rows take, scaled up, is what all rows take, within the constants."""
    problem = plan().problem("mimo", 2, "clebsch_gordan")
    small, large = (run(degrees=[2], batch=batch)[0].peak_memory_mb for batch in (8, 8000))
    assert problem.spec.dims == (9, 9, 25)
    assert large / small == pytest.approx(1000, rel=0.1)


def test_slow_and_broken_contenders_do_not_cost_the_others(monkeypatch):
    build = products.build_contender

    def sabotaged(request, problem, dtype, device):
        contender = build(Request("clebsch_gordan"), problem, dtype, device)
        if request.name == "broken":
            return replace(contender, call=lambda x, y: 1 / 0)
        if request.name == "detached":
            return replace(contender, call=lambda x, y: contender.call(x, y).detach())
        return contender

    monkeypatch.setattr(products, "build_contender", sabotaged)
    found = run(
        requests=[Request("broken"), Request("detached"), Request("clebsch_gordan")], passes=["forward", "full"]
    )
    reasons = {(each.contender, each.measured): each.reason for each in found}
    assert reasons["broken", ""] == "ZeroDivisionError: division by zero"
    assert reasons["detached", ""].startswith("RuntimeError: element 0 of tensors does not require grad")
    assert reasons["clebsch_gordan", "forward"] == reasons["clebsch_gordan", "full"] == ""
    (slow,) = run(call_limit=0.0)
    assert slow.reason.startswith("one call took 0.0 s, more than 0 s")
    assert math.isclose(slow.error, 0.0, abs_tol=1e-6)
