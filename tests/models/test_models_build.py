"""Building models: seeds, what is left untouched, and that every parameter counts."""

import copy
import pickle
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import ARCHITECTURES, batch, potential, random_structure

from mlip.errors import ConfigError, UnknownElementError
from mlip.models import MaceConfig, NequIPConfig, Potential, build_model, parse_model_config


def same_state(first: Potential, second: Potential) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_seed_decides_the_weights(architecture: str) -> None:
    first = potential(architecture, seed=3)
    torch.manual_seed(17)
    torch.rand(5)
    assert same_state(potential(architecture, seed=3), first)
    other = dict(potential(architecture, seed=4).named_parameters())
    assert all(not torch.equal(parameter, other[name]) for name, parameter in first.named_parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_dtype_does_not_change_the_weights(architecture: str) -> None:
    double, single = potential(architecture, "float64"), potential(architecture, "float32")
    assert double.dtype == torch.float64
    assert single.dtype == torch.float32
    assert same_state(single.double(), double)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_torch_default_dtype_does_not_change_the_model(architecture: str) -> None:
    """Programs that use e3nn's Wigner matrices or mace-torch set it to float64."""
    graph = batch(random_structure(1, 5, True))
    usual = potential(architecture, "float32", scale=0.1)
    expected = usual(graph, stress=True)
    torch.set_default_dtype(torch.float64)
    try:
        model = potential(architecture, "float32", scale=0.1)
        prediction = model(graph, stress=True)
    finally:
        torch.set_default_dtype(torch.float32)
    assert same_state(model, usual)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(torch.equal(a, b) for a, b in zip(prediction[:4], expected[:4], strict=True))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_building_leaves_the_state_of_the_program_alone(architecture: str) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    grad, dtype, threads = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    model = potential(architecture)
    model(batch(random_structure(1, 3)))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert random.getstate() == before[2]
    assert (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()) == (grad, dtype, threads)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_copies_are_models_of_their_own(architecture: str, copied: Callable[[Potential], Potential]) -> None:
    """Averages of weights are kept in a deep copy, and worker processes receive pickles."""
    model = potential(architecture, zbl=True)
    graph = batch(random_structure(1, 5, True))
    expected = model(graph)
    twin = copied(model)
    for parameter in model.parameters():
        parameter.data.zero_()
    model.float()
    assert torch.equal(twin(graph).forces, expected.forces)
    assert twin.dtype == torch.float64


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_same_input_gives_the_same_bits(architecture: str) -> None:
    model = potential(architecture, "float32")
    graph = batch(random_structure(1, 6, True), random_structure(2, 4))
    first, second = model(graph, stress=True), model(graph, stress=True)
    assert all(torch.equal(a, b) for a, b in zip(first[:4], second[:4], strict=True))


CASES: list[tuple[str, dict[str, Any]]] = [
    ("mace", {"layers": 1, "correlation": 2}),
    ("mace", {"layers": 2, "correlation": 3}),
    ("mace", {"layers": 3, "correlation": 4, "hidden_irreps": "3x0e+2x1o+2x2e"}),
    ("nequip", {"layers": 1, "hidden_irreps": "4x0e"}),
    ("nequip", {"layers": 2, "hidden_irreps": "4x0e+3x1o+2x2e"}),
    ("nequip", {"layers": 4, "hidden_irreps": "4x0e+3x1o+2x2e"}),
]


@pytest.mark.parametrize(("architecture", "changes"), CASES)
def test_every_entry_of_every_parameter_receives_a_gradient(architecture: str, changes: dict[str, Any]) -> None:
    model = potential(architecture, **changes).train()
    structures = [random_structure(seed, 8, pbc) for seed, pbc in ((1, False), (2, True), (3, False))]
    prediction = model(batch(*structures))
    ((prediction.forces**2).sum() + (prediction.energy**2).sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).all(), name


@pytest.mark.parametrize("changes", [{"hidden_irreps": "4x0e+2x0o+3x1o+3x1e", "layers": 3}, {"l_max": 0}], ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_parameter_is_left_out_of_the_graph(architecture: str, changes: dict[str, Any]) -> None:
    """Parallel training waits for every gradient, also of irreps that the energy cannot see and of a lone atom."""
    model = potential(architecture, **changes).train()
    for graph in (batch(random_structure(1, 5)), batch(random_structure(1, 1))):
        model.zero_grad()
        prediction = model(graph)
        ((prediction.forces**2).sum() + (prediction.energy**2).sum()).backward()
        missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
        assert not missing


@pytest.mark.parametrize("correlation", [1, 2, 3, 4])
def test_correlation_is_the_power_of_the_neighbour_density(correlation: int) -> None:
    """With one layer and no radial network the energy of an atom is a polynomial in its radial basis."""
    changes = {"layers": 1, "radial_hidden": [], "hidden_irreps": "3x0e", "elements": ["H"], "l_max": 1}
    changes["average_neighbours"] = 1.0
    model = potential("mace", correlation=correlation, **changes)
    graph = batch(random_structure(1, 4))
    graph.atomic_numbers[:] = 1
    weight = model.network.layers[0].convolution.radial_network.weights[0]
    original = weight.detach().clone()
    scales = np.arange(correlation + 2)
    energies = []
    for scale in scales:
        weight.data = original * float(scale)
        energies.append(model(graph, forces=False).energies.numpy())
    # Differences of order correlation + 1 of a polynomial of that degree vanish; those of its own order do not.
    values = np.array(energies)
    for _ in range(correlation):
        values = np.array([b - a for a, b in pairwise(values)])
    assert np.abs(values).max() > 1e-6
    np.testing.assert_allclose(values[1] - values[0], 0.0, atol=1e-11 * (1 + np.abs(energies).max()))


def test_unknown_dtype_and_unknown_elements() -> None:
    with pytest.raises(ConfigError, match=r"'float16'.*float32, float64"):
        potential("mace", "float16")
    model = potential("mace")
    graph = batch(random_structure(1, 3))
    graph.atomic_numbers[1] = 26
    with pytest.raises(UnknownElementError, match=r"Fe.*H, C, O, Si"):
        model(graph)


def test_a_configuration_object_is_as_good_as_a_dictionary() -> None:
    values = {"architecture": "mace", "elements": ["O", "H"], "hidden_irreps": "2x0e+2x1o", "layers": 1}
    config = parse_model_config(values)
    assert isinstance(config, MaceConfig)
    assert isinstance(parse_model_config({"architecture": "nequip", "elements": ["H"]}), NequIPConfig)
    assert same_state(build_model(config), build_model(values))
    assert build_model(values).elements == ["H", "O"]
    assert build_model(values).cutoff == 5.0
