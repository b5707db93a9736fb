"""Contenders compute the same function, and those that do not are found out."""

from dataclasses import replace

import pytest
import torch

from mlip.benchmarks import baselines
from mlip.benchmarks.contenders import Request, build_contender, default_requests, parse_requests, relative_error
from mlip.benchmarks.problems import make_operands, make_problem
from mlip.benchmarks.reference import reference_product
from mlip.errors import ConfigError
from mlip.tensor_products import TensorProduct

CPU = torch.device("cpu")


def build(name, problem, dtype=torch.float64, **options):
    return build_contender(Request(name, options), problem, dtype, CPU), make_operands(problem, dtype, CPU)


@pytest.mark.parametrize("weights", ["none", "per_path", "per_degree", "shared"])
@pytest.mark.parametrize("mode", ["elementwise", "channelwise"])
def test_the_definition_is_the_public_product(mode, weights):
    """Two ways to the same numbers: the definition loops over paths, the product does not."""
    for setting, coupling in (("mimo", "clebsch_gordan"), ("simo", "gaunt"), ("network", "gaunt"), ("mimo", "matrix")):
        problem = make_problem(setting, 2, coupling=coupling, weights=weights, mode=mode, channels=3, batch=4)
        operands = make_operands(problem, torch.float64, CPU)
        product = TensorProduct(*problem.irreps, coupling=coupling, weights=weights, mode=problem.mode)
        expected = product(operands.x, operands.y, operands.weight)
        torch.testing.assert_close(reference_product(problem, operands), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weights", ["none", "per_path", "per_degree", "shared"])
@pytest.mark.parametrize("coupling", ["clebsch_gordan", "gaunt", "gaunt+bracket"])
@pytest.mark.parametrize("setting", ["simo", "mimo", "network"])
def test_e3nn_computes_the_definition(setting, coupling, weights):
    problem = make_problem(setting, 2, coupling=coupling, weights=weights, channels=3, batch=4)
    contender, operands = build("e3nn", problem)
    assert relative_error(contender, problem, operands) < 1e-12
    assert contender.exact
    differs = f"one weight per path, {len(problem.spec.paths)} instead of" in contender.differs
    assert differs == (weights in ("per_degree", "shared"))


def test_e3nn_is_rounded_once():
    problem = make_problem("mimo", 2, channels=3, batch=4)
    contender, operands = build("e3nn", problem, torch.float32)
    assert 0.0 < relative_error(contender, problem, operands) < 1e-6
    assert torch.get_default_dtype() == torch.float32


def test_e3nn_cannot_turn_signs():
    with pytest.raises(ConfigError, match="'matrix' has a negative factor"):
        build("e3nn", make_problem("mimo", 2, coupling="matrix"))


def test_e3nn_full_keeps_paths_apart():
    problem = make_problem("network", 2, channels=3, batch=4)
    contender, operands = build("e3nn_full", problem)
    assert relative_error(contender, problem, operands) < 1e-12
    assert contender.differs == "paths to one output not summed"
    own = contender.adopt(operands)
    # One entry for each of the 11 paths; its cotangent holds each output's as often as paths lead there.
    result = contender.call(*own.arguments)
    assert result.shape == own.cotangent.shape
    summed = contender.restore(own.cotangent)
    counts = [sum(path.out == out for path in problem.spec.paths) for out in range(3)]
    repeated = torch.cat(
        [n * operands.cotangent[:, s] for n, s in zip(counts, problem.irreps[2].slices(), strict=True)], 1
    )
    torch.testing.assert_close(summed, repeated)


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"setting": "mimo"}, "every channel of x to every channel of y"),
        ({"setting": "network", "weights": "per_path"}, "no weights and one coupling"),
        ({"setting": "network", "coupling": "gaunt"}, "no weights and one coupling"),
    ],
)
def test_e3nn_full_is_refused_where_it_is_another_product(options, fact):
    with pytest.raises(ConfigError, match=fact):
        build("e3nn_full", make_problem(options.pop("setting"), 1, **options))


@pytest.mark.parametrize("weights", ["none", "per_path", "per_degree"])
@pytest.mark.parametrize("setting", ["mimo", "network"])
def test_cuequivariance_computes_the_definition(setting, weights):
    pytest.importorskip("cuequivariance_torch")
    problem = make_problem(setting, 2, coupling="gaunt", weights=weights, channels=3, batch=4)
    contender, operands = build("cuequivariance", problem)
    assert relative_error(contender, problem, operands) < 1e-12


@pytest.mark.parametrize(
    ("options", "device", "fact"),
    [
        ({}, "cpu", "on a GPU only"),
        ({"mode": "elementwise", "weights": "per_path"}, "cuda", "no elementwise product"),
        ({"mode": "channelwise"}, "cuda", "weighted paths only"),
    ],
)
def test_openequivariance_is_refused_where_it_cannot(options, device, fact):
    with pytest.raises(ConfigError, match=fact):
        baselines.build("openequivariance", make_problem("mimo", 1, **options), torch.float32, torch.device(device))


def test_impostors_are_refused():
    problem = make_problem("mimo", 2, channels=3, batch=4)
    contender, operands = build("clebsch_gordan", problem)
    honest = relative_error(contender, problem, operands)
    assert honest < 1e-12
    wrong = replace(contender, call=lambda x, y: contender.call(x, y) * (1 + 1e-9))
    with pytest.raises(ConfigError, match=r"deviates from the definition by 1\.0e-09"):
        relative_error(wrong, problem, operands)
    nothing = replace(contender, call=lambda x, y: contender.call(x, y) * torch.nan)
    with pytest.raises(ConfigError, match="deviates from the definition by nan"):
        relative_error(nothing, problem, operands)
    approximate = replace(wrong, exact=False)
    assert relative_error(approximate, problem, operands) == pytest.approx(1e-9, rel=1e-3)


def test_requests():
    assert parse_requests("clebsch_gordan, cp:rank=31 ,e3nn") == [
        Request("clebsch_gordan"),
        Request("cp", {"rank": 31}),
        Request("e3nn"),
    ]
    (request,) = parse_requests("spherical_grid:a=0.5:b=word")
    assert request.options == {"a": 0.5, "b": "word"}
    assert request.label == "spherical_grid:a=0.5:b=word"
    names = [each.name for each in default_requests()]
    assert {"clebsch_gordan", "e3nn", "e3nn_full"} <= set(names)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("e3n", "unknown backend 'e3n': did you mean 'e3nn'"),
        ("", "unknown backend ''"),
        ("cp:rank", "'rank' in 'cp:rank' is no option"),
        ("cp:rank=", "'rank=' in 'cp:rank=' is no option"),
    ],
)
def test_wrong_requests(text, fact):
    with pytest.raises(ConfigError, match=fact):
        parse_requests(text)


def test_packages_that_are_not_installed(monkeypatch):
    monkeypatch.setitem(baselines.PACKAGES, "e3nn", "no_such_package")
    with pytest.raises(ConfigError, match="needs the package no_such_package"):
        parse_requests("e3nn")
    assert "e3nn" not in [each.name for each in default_requests()]
    with pytest.raises(ConfigError, match="unknown backend 'e3nn'"):
        parse_requests("e3nn", {})


def test_options_that_are_no_contenders_own():
    problem = make_problem("mimo", 1)
    with pytest.raises(ConfigError, match="'coupling' in 'clebsch_gordan:coupling=gaunt' is the same for all"):
        build("clebsch_gordan", problem, coupling="gaunt")
    with pytest.raises(ConfigError, match="'e3nn' takes no options"):
        build("e3nn", problem, rank=3)
