"""Forces, stress, Hessian and parameter gradients against central differences of fourth order in float64."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import ARCHITECTURES, CUTOFF, batch, evaluate, potential, random_structure

from mlip.data.graphs import build_graph, collate_graphs
from mlip.data.structures import Structure
from mlip.models import Potential

# f' = (f(-2h) - 8 f(-h) + 8 f(h) - f(2h)) / 12h, with an error of h^4 f''''' / 30.
STENCIL = {-2: 1.0 / 12.0, -1: -8.0 / 12.0, 1: 8.0 / 12.0, 2: -1.0 / 12.0}
STEP = 5e-4
CASES: list[tuple[str, dict[str, Any]]] = [
    ("mace", {"correlation": 1, "layers": 1}),
    ("mace", {"correlation": 2, "layers": 3, "zbl": True}),
    ("mace", {"correlation": 3, "l_max": 3, "hidden_irreps": "3x0e+2x1o+2x2e"}),
    ("mace", {"correlation": 4, "radial_basis": "gaussian"}),
    ("nequip", {"layers": 1}),
    ("nequip", {"layers": 2, "radial_basis": "gaussian", "zbl": True}),
    ("nequip", {"cutoff_onset": 2.4, "solid_harmonics": True, "self_connection": "shared"}),
    ("nequip", {"layers": 3, "l_max": 3, "hidden_irreps": "3x0e+2x0o+2x1o+2x1e+2x2e+1x3o"}),
]
PERIODICITIES = [False, True]


def smooth_structure(num_atoms: int, pbc: bool) -> Structure:
    """A structure without a pair that a difference step could carry across the cutoff, where f''' jumps."""
    for seed in range(100):
        structure = random_structure(seed, num_atoms, pbc)
        graph = build_graph(structure, CUTOFF + 0.2)
        senders, receivers = graph.edge_index
        vectors = graph.positions[senders] + graph.edge_offsets - graph.positions[receivers]
        if (torch.linalg.vector_norm(vectors, dim=1) - CUTOFF).abs().min() > 10 * STEP:
            return structure
    raise AssertionError("every structure has a pair at the cutoff")


def differences(
    model: Potential, structure: Structure, displaced: Callable[[int, float], Structure], count: int
) -> np.ndarray:
    """Derivatives of the energy with respect to `count` displacements, all structures in one batch."""
    structures = [displaced(number, place * STEP) for number in range(count) for place in STENCIL]
    with torch.no_grad():
        energies = model(collate_graphs([build_graph(each, CUTOFF) for each in structures]), forces=False).energy
    return energies.numpy().reshape(count, len(STENCIL)) @ np.array(list(STENCIL.values())) / STEP


def moved(structure: Structure) -> Callable[[int, float], Structure]:
    def displaced(number: int, size: float) -> Structure:
        positions = structure.positions.copy()
        positions.flat[number] += size
        return replace(structure, positions=positions)

    return displaced


def strained(structure: Structure) -> Callable[[int, float], Structure]:
    def displaced(number: int, size: float) -> Structure:
        deformation = np.eye(3)
        deformation.flat[number] += size
        positions, cell = structure.positions @ deformation.T, structure.cell @ deformation.T
        return replace(structure, positions=positions, cell=cell)

    return displaced


@pytest.mark.parametrize("pbc", PERIODICITIES)
@pytest.mark.parametrize(("architecture", "changes"), CASES)
def test_forces(architecture: str, changes: dict[str, Any], pbc: bool) -> None:
    model = potential(architecture, **changes)
    structure = smooth_structure(6, pbc)
    forces = evaluate(model, structure).forces.numpy()
    expected = -differences(model, structure, moved(structure), 3 * len(structure)).reshape(-1, 3)
    assert np.abs(forces).max() > 1e-2
    np.testing.assert_allclose(forces, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("architecture", "changes"), CASES)
def test_stress_in_a_skewed_cell(architecture: str, changes: dict[str, Any]) -> None:
    model = potential(architecture, **changes)
    structure = smooth_structure(5, True)
    stress = evaluate(model, structure, stress=True).stress[0].numpy()
    volume = abs(np.linalg.det(structure.cell))
    expected = differences(model, structure, strained(structure), 9).reshape(3, 3) / volume
    assert np.abs(stress).max() > 1e-4
    np.testing.assert_allclose(stress, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_stress_of_a_slab_and_of_a_molecule(architecture: str) -> None:
    """The volume of a slab is that of its whole cell; a molecule without a cell has no stress."""
    model = potential(architecture)
    slab = random_structure(4, 5, (True, True, False))
    molecule = random_structure(4, 5)
    stress = evaluate(model, slab, molecule, stress=True).stress.numpy()
    expected = differences(model, slab, strained(slab), 9).reshape(3, 3) / abs(np.linalg.det(slab.cell))
    np.testing.assert_allclose(stress[0], expected, rtol=0, atol=1e-8)
    assert not stress[1].any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_hessian(architecture: str) -> None:
    """Positions that require a gradient keep the graph of the forces in evaluation mode, also under `no_grad`."""
    model = potential(architecture)
    structure = smooth_structure(4, False)
    graph = batch(structure)
    graph.positions.requires_grad_()
    forces = model(graph).forces
    rows = [torch.autograd.grad(-force, graph.positions, retain_graph=True)[0] for force in forces.flatten()]
    hessian = torch.stack(rows).flatten(1).numpy()
    displaced = moved(structure)
    expected = np.zeros_like(hessian)
    for number in range(hessian.shape[0]):
        for place, weight in STENCIL.items():
            expected[number] -= weight / STEP * evaluate(model, displaced(number, place * STEP)).forces.numpy().ravel()
    np.testing.assert_allclose(hessian, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(hessian, hessian.T, rtol=0, atol=1e-10)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_outputs_keep_their_graph_only_where_it_is_needed(architecture: str) -> None:
    model = potential(architecture)
    graph = batch(random_structure(1, 4, True))
    assert not any(output.requires_grad for output in model(graph, stress=True)[:4])
    with torch.no_grad():
        assert not any(output.requires_grad for output in model(graph, stress=True)[:4])
    assert not model(graph, forces=False).energy.requires_grad
    expected = model(graph, stress=True)[:4]
    model.train()
    with torch.no_grad():
        outputs = model(graph, stress=True)[:4]
    assert all(output.requires_grad for output in outputs)
    for actual, each in zip(outputs, expected, strict=True):
        torch.testing.assert_close(actual.detach(), each, rtol=0, atol=1e-12)
    assert not graph.positions.requires_grad


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_forces_or_stress_alone_are_those_of_both_together(architecture: str) -> None:
    model = potential(architecture)
    graph = batch(random_structure(1, 4, True))
    both = model(graph, forces=True, stress=True)
    only_forces, only_stress = model(graph), model(graph, forces=False, stress=True)
    neither = model(graph, forces=False)
    assert only_forces.stress is None
    assert only_stress.forces is None
    assert neither.forces is None
    assert neither.stress is None
    assert torch.equal(only_forces.forces, both.forces)
    assert torch.equal(only_stress.stress, both.stress)
    assert torch.equal(neither.energies, both.energies)


def force_loss(model: Potential, graph: Any) -> torch.Tensor:
    prediction = model(graph, stress=True)
    targets = torch.linspace(-1.0, 1.0, prediction.forces.numel(), dtype=torch.float64).view_as(prediction.forces)
    loss: torch.Tensor = ((prediction.forces - targets) ** 2).sum() + (prediction.stress**2).sum() * 100
    return loss + (prediction.energy**2).sum()


@pytest.mark.parametrize(("architecture", "changes"), CASES)
def test_gradient_of_a_force_loss_in_the_parameters(architecture: str, changes: dict[str, Any]) -> None:
    """Along random directions in which every parameter moves by the same length."""
    model = potential(architecture, **changes).train()
    graph = batch(random_structure(2, 4, True), random_structure(3, 3))
    parameters = list(model.parameters())
    values = [parameter.detach().clone() for parameter in parameters]
    gradients = torch.autograd.grad(force_loss(model, graph), parameters)
    generator = torch.Generator().manual_seed(0)
    step = 1e-3
    for _ in range(5):
        directions = [torch.randn(each.shape, generator=generator, dtype=torch.float64) for each in values]
        directions = [direction / torch.linalg.vector_norm(direction) for direction in directions]
        expected = 0.0
        for place, weight in STENCIL.items():
            for parameter, value, direction in zip(parameters, values, directions, strict=True):
                parameter.data = value + place * step * direction
            expected += weight / step * force_loss(model, graph).item()
        terms = [(a * b).sum().item() for a, b in zip(gradients, directions, strict=True)]
        assert sum(terms) == pytest.approx(expected, abs=1e-7 * sum(abs(term) for term in terms))
