"""Swapped tensor products in whole models: one function whatever the backend, symmetric, and safe to configure."""

from typing import Any

import numpy as np
import pytest
import torch
from model_cases import ARCHITECTURES, batch, evaluate, per_structure, potential, random_structure
from test_models_symmetries import images_of

from mlip import load, save
from mlip.errors import ConfigError
from mlip.models import build_model, parse_model_config, with_backend
from mlip.models.conversion import largest_energy_difference

BACKENDS = {
    "clebsch_gordan": ["clebsch_gordan", "cp"],
    "gaunt": ["clebsch_gordan", "spherical_grid", "gaunt_fourier"],
    "matrix": ["clebsch_gordan", "matrix"],
}
IRREPS = {"mace": "4x0e+3x1o", "nequip": "4x0e+2x0o+3x1o+2x1e"}


def swapped(architecture: str, **product: Any):
    return potential(architecture, tensor_product=product, hidden_irreps=IRREPS[architecture])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("coupling", BACKENDS)
@pytest.mark.parametrize("weights", ["per_degree", "shared"])
def test_backends_give_the_same_energies_and_forces_from_one_state_dict(
    architecture: str, coupling: str, weights: str
) -> None:
    structure = random_structure(3, 8, True)
    first, *others = (
        swapped(architecture, backend=backend, coupling=coupling, weights=weights) for backend in BACKENDS[coupling]
    )
    expected = evaluate(first, structure, stress=True)
    for model in others:
        model.load_state_dict(first.state_dict())
        prediction = evaluate(model, structure, stress=True)
        # The factors of the exact CP fit are good to this.
        tolerance = 1e-6 if model.config.tensor_product.convolution.backend == "cp" else 1e-10
        for name in ("energy", "forces", "stress"):
            ours, theirs = getattr(prediction, name), getattr(expected, name)
            assert (ours - theirs).abs().max() <= tolerance * max(1.0, float(theirs.abs().max()))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "product",
    [
        {"backend": "spherical_grid"},
        {"backend": "gaunt_fourier", "weights": "shared"},
        {"backend": "matrix"},
        {"backend": "cp"},
        {"backend": "clebsch_gordan", "weights": "per_degree"},
        {"backend": "clebsch_gordan", "algorithm": "escn"},
    ],
    ids=str,
)
def test_rotations_reflections_and_permutations(architecture: str, product: dict[str, Any]) -> None:
    if "algorithm" in product and architecture == "mace":
        product = {"convolution": product}
    model = swapped(architecture, **product)
    images, operations, orders = images_of(random_structure(5, 6), 7)
    prediction = evaluate(model, *images)
    assert prediction.energy.numpy() == pytest.approx(np.full(len(images), prediction.energy[0].item()), abs=1e-10)
    forces = per_structure(prediction.forces, *images)
    assert np.abs(forces[0]).max() > 1e-3
    for each, operation, order in zip(forces, operations, orders, strict=True):
        np.testing.assert_allclose(each, forces[0][order] @ operation.T, rtol=0, atol=1e-10)


def test_the_bracket_adds_the_paths_that_gaunt_products_lack() -> None:
    # 1e comes from 1o in the second layer and reaches the energy by 1o in the fourth.
    config = {"hidden_irreps": "4x0e+3x1o+3x1e", "layers": 4}
    complete = potential("nequip", tensor_product={"backend": "spherical_grid", "coupling": "gaunt+bracket"}, **config)
    even = potential("nequip", tensor_product={"backend": "spherical_grid"}, **config)
    irreps = [[str(layer.gate.irreps_out) for layer in model.network.layers] for model in (complete, even)]
    assert irreps[0] == ["4x0e+3x1o", "4x0e+3x1o+3x1e", "4x0e+3x1o+3x1e", "4x0e"]
    assert irreps[1] == ["4x0e+3x1o", "4x0e+3x1o", "4x0e+3x1o", "4x0e"]
    images, _, _ = images_of(random_structure(5, 6), 7)
    prediction = evaluate(complete, *images)
    assert prediction.energy.numpy() == pytest.approx(np.full(len(images), prediction.energy[0].item()), abs=1e-10)


def test_a_loss_on_forces_reaches_every_weight() -> None:
    for product in ({"backend": "spherical_grid"}, {"backend": "cp", "rank": 6}, {"backend": "matrix"}):
        model = swapped("mace", **product).train()
        model(batch(random_structure(3, 6))).forces.pow(2).sum().backward()
        without = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()]
        assert without == []


def test_truncated_factors_travel_with_the_model(tmp_path) -> None:
    model = swapped("mace", backend="cp", rank=6)
    names = [name for name in model.state_dict() if "backend" in name]
    assert names
    with torch.no_grad():
        for name in names:
            model.state_dict()[name].mul_(1.01)
    model.load_state_dict(model.state_dict())
    save(model, tmp_path / "truncated.mlip")
    again = load(tmp_path / "truncated.mlip")
    structure = random_structure(1, 5)
    assert torch.equal(evaluate(again, structure).energy, evaluate(model, structure).energy)
    fresh = swapped("mace", backend="cp", rank=6)
    assert not torch.equal(evaluate(fresh, structure).energy, evaluate(model, structure).energy)
    with pytest.raises(ConfigError, match="truncated rank"):
        with_backend(model, "clebsch_gordan")


def test_a_truncated_part_stays_while_the_other_is_converted() -> None:
    products = {"convolution": {"backend": "spherical_grid"}, "contraction": {"backend": "cp", "rank": 6}}
    model = potential("mace", tensor_product=products)
    converted = with_backend(model, "gaunt_fourier", ["convolution"])
    assert converted.config.tensor_product.contraction.rank == 6
    assert largest_energy_difference(model, converted) < 1e-11
    with pytest.raises(ConfigError, match="truncated rank"):
        with_backend(model, "clebsch_gordan", ["contraction"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_conversion_keeps_energies_and_says_what_it_cannot_do(architecture: str) -> None:
    model = swapped(architecture, backend="spherical_grid")
    for backend in ("gaunt_fourier", "clebsch_gordan"):
        converted = with_backend(model, backend)
        products = converted.config.tensor_product.model_dump()
        assert {each["backend"] for each in products.values()} == {backend}
        assert {each["coupling"] for each in products.values()} == {"gaunt"}
        assert largest_energy_difference(model, converted) < 1e-11
    with pytest.raises(ConfigError, match="computes none of the model's products"):
        with_backend(model, "matrix")
    with pytest.raises(ConfigError, match="did you mean 'spherical_grid'"):
        with_backend(model, "sperical_grid")
    with pytest.raises(ConfigError, match="the model has no 'message'"):
        with_backend(model, "gaunt_fourier", ["message"])


def test_one_part_alone_is_converted() -> None:
    mixed = potential("mace", tensor_product={"convolution": {"backend": "spherical_grid"}})
    products = with_backend(mixed, "gaunt_fourier").config.tensor_product
    assert products.convolution.backend == "gaunt_fourier"
    assert products.contraction.backend == "clebsch_gordan"
    both = swapped("mace", backend="spherical_grid")
    products = with_backend(both, "gaunt_fourier", ["contraction"]).config.tensor_product
    assert (products.convolution.backend, products.contraction.backend) == ("spherical_grid", "gaunt_fourier")


def test_the_fastest_backend_is_chosen_and_computes_the_same(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    grid = swapped("nequip", backend="spherical_grid")
    automatic = with_backend(grid, "auto")
    assert automatic.config.tensor_product.convolution.backend == "auto"
    assert largest_energy_difference(grid, automatic) < 1e-11


def test_defaults_are_written_out() -> None:
    config = parse_model_config({"architecture": "mace", "tensor_product": {"backend": "spherical_grid"}})
    for product in (config.tensor_product.convolution, config.tensor_product.contraction):
        assert (product.backend, product.coupling, product.weights) == ("spherical_grid", "gaunt", "per_degree")
    config = parse_model_config({"architecture": "mace", "tensor_product": {"contraction": {"backend": "cp"}}})
    assert config.tensor_product.convolution.weights == "per_path"
    assert (config.tensor_product.contraction.coupling, config.tensor_product.contraction.weights) == (
        "clebsch_gordan",
        "per_degree",
    )
    assert parse_model_config(config.model_dump()) == config


@pytest.mark.parametrize(
    ("product", "parts"),
    [
        ({"backend": "spherical_gird"}, ["spherical_gird", "did you mean 'spherical_grid'?"]),
        ({"backnd": "cp"}, ["unknown key 'tensor_product.backnd'", "did you mean 'backend'?"]),
        ({"convolution": {"backnd": "cp"}}, ["unknown key 'tensor_product.convolution.backnd'", "'backend'"]),
        ({"backend": "cp", "rank": 0}, ["rank: 0", "greater than or equal to 1"]),
        ({"backend": "spherical_grid", "weights": "per_path"}, ["no 'per_path' weights", "per_degree"]),
        ({"backend": "spherical_grid", "coupling": "clebsch_gordan"}, ["does not compute the coupling"]),
        ({"backend": "gaunt_fourier", "coupling": "gount"}, ["coupling: 'gount'", "'gaunt'"]),
        ({"backend": "spherical_grid", "rank": 3}, ["no option 'rank'"]),
        ({"backend": "spherical_grid", "coupling": "gaunt+bracket"}, ["bracket of a function with itself"]),
        ({"convolution": {"algorithm": "escm"}}, ["did you mean 'escn'?"]),
        ("cp", ["tensor_product: 'cp'"]),
    ],
    ids=str,
)
def test_a_mistake_is_one_sentence(product: Any, parts: list[str]) -> None:
    config = {"architecture": "mace", "elements": ["H"], "hidden_irreps": "4x0e+4x1o", "layers": 2, "l_max": 2}
    with pytest.raises(ConfigError) as caught:
        build_model(config | {"tensor_product": product})
    sentence = str(caught.value)
    assert "\n" not in sentence
    for part in parts:
        assert part in sentence
