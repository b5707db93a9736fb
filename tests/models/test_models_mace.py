"""What only `mace` has: kinds of interactions, densities, distance transforms, a correlation per layer."""

from typing import Any

import ase.data
import numpy as np
import pytest
import torch
from model_cases import CUTOFF, ELEMENTS, NUMBERS, potential, random_structure

from mlip.data.graphs import build_graph
from mlip.data.structures import Structure
from mlip.errors import ConfigError
from mlip.models import build_model, parse_model_config
from mlip.nn.radial import polynomial_cutoff
from mlip_kernels.edges import EdgeTopology

CASES: list[dict[str, Any]] = [
    {"interaction": "mixing", "correlation": [3, 1]},
    {"interaction": "density_residual", "first_interaction": "density_mixing", "distance_transform": "agnesi"},
    {"interaction": "density_mixing", "layers": 1, "distance_transform": "soft", "zbl": True, "zbl_form": "mace"},
]


@pytest.mark.parametrize("changes", CASES)
def test_forces_and_stress_are_derivatives(changes: dict[str, Any]) -> None:
    model = potential("mace", **changes)
    graph = build_graph(random_structure(3, 6, True), CUTOFF)
    graph.positions.requires_grad_()
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    positions, offsets, cell = graph.positions, graph.edge_offsets, graph.cell
    graph.positions = positions + positions @ strain
    graph.edge_offsets = offsets + offsets @ strain
    computed = model(graph, stress=True)
    gradient, virial = torch.autograd.grad(computed.energy.sum(), (positions, strain), retain_graph=True)
    torch.testing.assert_close(computed.forces, -gradient, rtol=1e-10, atol=1e-10)
    symmetric = (virial + virial.T) / 2.0 / torch.linalg.det(cell[0]).abs()
    torch.testing.assert_close(computed.stress[0], symmetric, rtol=1e-10, atol=1e-10)
    # A loss on forces reaches every weight that the energy depends on.
    weights = dict(model.named_parameters())
    gradients = torch.autograd.grad(computed.forces.square().sum(), list(weights.values()), allow_unused=True)
    reached = {name for name, each in zip(weights, gradients, strict=True) if each is not None and bool(each.any())}
    assert all(any(part in name for name in reached) for part in (".mixing.", ".density.") if part in " ".join(weights))


@pytest.mark.parametrize("changes", CASES)
def test_energy_is_smooth_at_the_cutoff(changes: dict[str, Any]) -> None:
    """An atom that enters the sphere changes nothing at once."""
    model = potential("mace", **changes)
    energies = []
    for distance in (CUTOFF - 1e-4, CUTOFF + 1e-4):
        positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.1], [distance, 0.0, 0.0]])
        structure = Structure(numbers=NUMBERS[:3], positions=positions, cell=np.zeros((3, 3)), pbc=np.zeros(3, bool))
        energies.append(float(model(build_graph(structure, CUTOFF), forces=False).energy))
    assert energies[0] == pytest.approx(energies[1], abs=1e-9)


def test_the_first_interaction_may_be_another() -> None:
    network = potential("mace", interaction="residual", first_interaction="density_mixing", layers=3).network
    kinds = [(layer.density is None, layer.mixing is None, layer.residual is None) for layer in network.layers]
    assert kinds == [(False, False, True), (True, True, False), (True, True, False)]


def test_every_layer_may_have_its_correlation() -> None:
    layers = potential("mace", correlation=[3, 1, 2], layers=3).network.layers
    orders = [max(term.monomials.shape[1] for term in layer.contraction.table.terms) for layer in layers]
    assert orders == [3, 1, 2]
    with pytest.raises(ConfigError, match="correlation has 3 values for 2 layers"):
        parse_model_config({"architecture": "mace", "correlation": [3, 1, 2]})


def test_a_density_counts_neighbours() -> None:
    """Two atoms far from each other have none; the more there are, the higher it is."""
    density = potential("mace", interaction="density_residual").network.layers[0].density
    radial = potential("mace").network.radial
    receivers = torch.tensor([0, 0, 1])
    edges = EdgeTopology(torch.tensor([1, 2, 0]), receivers, 3)
    distances = torch.tensor([1.0, 1.5, CUTOFF], dtype=torch.float64)
    counted = density(radial(distances), edges)[:, 0]
    single = torch.tanh((radial(distances) @ density.linear.weights[0] / 8.0**0.5) ** 2)[:, 0]
    torch.testing.assert_close(counted[0], 1.0 + single[0] + single[1])
    assert counted[1:].tolist() == [1.0, 1.0]


def test_mace_torchs_repulsion_is_scaled_like_the_network() -> None:
    """The pair energy of a carbon and an oxygen atom, written out."""
    changes = {"zbl": True, "zbl_form": "mace", "scale": 0.7, "cutoff_power": 5}
    distance = 0.9
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, distance]])
    structure = Structure(numbers=NUMBERS[1:3], positions=positions, cell=np.zeros((3, 3)), pbc=np.zeros(3, bool))
    graph = build_graph(structure, CUTOFF)
    model = potential("mace", **changes)
    with_repulsion = float(model(graph, forces=False).energy)
    model.zbl = None
    length = 0.4543 * 0.529 / (6.0**0.3 + 8.0**0.3)
    terms = zip((0.1818, 0.5099, 0.2802, 0.02817), (3.2, 0.9423, 0.4028, 0.2016), strict=True)
    screening = sum(amplitude * np.exp(-decay * distance / length) for amplitude, decay in terms)
    end = float(ase.data.covalent_radii[6] + ase.data.covalent_radii[8])
    envelope = float(polynomial_cutoff(torch.tensor(distance, dtype=torch.float64), end, 5))
    expected = 0.7 * 14.3996 * 48.0 / distance * screening * envelope
    assert expected > 0.5
    assert with_repulsion - float(model(graph, forces=False).energy) == pytest.approx(expected, rel=1e-12)


def test_models_without_the_new_parts_have_the_weights_of_before() -> None:
    config = {"architecture": "mace", "elements": ELEMENTS, "hidden_irreps": "2x0e", "l_max": 1, "zbl": True}
    names = set(build_model(config).state_dict())
    assert not {name for name in names if any(part in name for part in ("mixing", "density", "transform", "zbl"))}
    assert "network.layers.0.residual.weights.0e" in names
