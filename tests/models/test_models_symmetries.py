"""Rotations, reflections, translations and permutations leave the energy and turn forces and stress."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import (
    ARCHITECTURES,
    CUTOFF,
    batch,
    evaluate,
    model_configs,
    per_structure,
    potential,
    random_structure,
)
from scipy.spatial.transform import Rotation

from mlip.data.structures import Structure
from mlip.models import Potential, build_model

TOLERANCES = {"float64": 1e-10, "float32": 1e-5}
PERIODICITIES = [False, True, (True, False, True)]


def turned(structure: Structure, operation: np.ndarray) -> Structure:
    return replace(structure, positions=structure.positions @ operation.T, cell=structure.cell @ operation.T)


def images_of(structure: Structure, seed: int) -> tuple[list[Structure], list[np.ndarray], list[np.ndarray]]:
    """A structure and its images, with the operation and the order of atoms that belong to each."""
    rng = np.random.default_rng(seed)
    identity, rotation = np.eye(3), Rotation.random(random_state=seed).as_matrix()
    order, permutation = np.arange(len(structure)), rng.permutation(len(structure))
    images = [
        structure,
        turned(structure, rotation),
        turned(structure, -rotation),
        replace(structure, positions=structure.positions + rng.normal(size=3) * 5.0),
        replace(structure, numbers=structure.numbers[permutation], positions=structure.positions[permutation]),
    ]
    return images, [identity, rotation, -rotation, identity, identity], [order, order, order, order, permutation]


def largest_pull(model: Potential, structure: Structure) -> float:
    """Size of the largest gradient with respect to the vector of one edge, eV/Å: what forces are sums of."""
    graph = batch(structure)
    graph.edge_offsets.requires_grad_()
    gradients = torch.autograd.grad(model.train()(graph, forces=False).energy.sum(), graph.edge_offsets)[0]
    model.eval()
    return float(torch.linalg.vector_norm(gradients, dim=1).max()) if len(gradients) else 0.0


def errors(model: Potential, structure: Structure, seed: int) -> tuple[float, float, float]:
    """Worst absolute differences of energy, forces and virial between a structure and its images."""
    images, operations, orders = images_of(structure, seed)
    prediction = evaluate(model, *images, stress=True)
    forces = per_structure(prediction.forces, *images)
    expected = [forces[0][order] @ each.T for each, order in zip(operations, orders, strict=True)]
    virials = prediction.stress.numpy() * abs(np.linalg.det(structure.cell))
    expected_virials = [each @ virials[0] @ each.T for each in operations]
    energy_error = (prediction.energy - prediction.energy[0]).abs().max().item()
    force_error = max(np.abs(a - b).max() for a, b in zip(forces, expected, strict=True))
    return energy_error, float(force_error), float(np.abs(virials - expected_virials).max())


@settings(max_examples=150)
@given(
    config=model_configs,
    seed=st.integers(0, 10**6),
    num_atoms=st.integers(1, 8),
    pbc=st.sampled_from(PERIODICITIES),
)
def test_random_models_and_structures(config: dict[str, Any], seed: int, num_atoms: int, pbc: Any) -> None:
    """Errors relative to the terms that energy, forces and virial are sums of, since these may cancel."""
    structure = random_structure(seed, num_atoms, pbc)
    with pytest.MonkeyPatch.context() as patch:
        # Kernels are compiled anew for each of these models; that they compute the same is tested elsewhere.
        patch.setenv("MLIP_KERNELS", "reference")
        models = {dtype: build_model(config, dtype).eval() for dtype in TOLERANCES}
    energies = evaluate(models["float64"], structure).energies
    # A new network gives each atom an energy of the order of 1 eV, by sums over channels that may cancel too.
    energy_scale = energies.abs().clamp(min=0.1).sum().item()
    pull = max(largest_pull(models["float64"], structure), 1e-3 * energy_scale)
    for dtype, model in models.items():
        energy_error, force_error, virial_error = errors(model, structure, seed)
        assert energy_error <= TOLERANCES[dtype] * energy_scale
        assert force_error <= TOLERANCES[dtype] * pull
        assert virial_error <= TOLERANCES[dtype] * pull * CUTOFF * num_atoms


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("pbc", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_models_of_the_usual_size(architecture: str, pbc: bool, dtype: str) -> None:
    """Errors relative to the energy, to the largest force and to the virial themselves."""
    irreps = {"mace": "16x0e+16x1o", "nequip": "8x0e+4x0o+8x1o+4x1e+4x2e+2x2o+2x3o"}
    changes = {"mace": {"correlation": 3}, "nequip": {"layers": 3}}
    model = potential(architecture, dtype, hidden_irreps=irreps[architecture], l_max=3, **changes[architecture])
    structure = random_structure(3, 9, pbc)
    prediction = evaluate(model, structure, stress=True)
    energy_error, force_error, virial_error = errors(model, structure, 0)
    assert energy_error <= TOLERANCES[dtype] * prediction.energy.abs().item()
    assert force_error <= TOLERANCES[dtype] * prediction.forces.abs().max().item()
    virial = prediction.stress.abs().max().item() * abs(np.linalg.det(structure.cell))
    assert virial_error <= TOLERANCES[dtype] * virial


def test_a_mace_with_pseudoscalars_is_invariant_under_reflections() -> None:
    """From degree 4 on symmetric products hold `0o`, which e3nn sorts before `0e`."""
    model = potential("mace", hidden_irreps="2x0o+3x0e+2x1o", l_max=4, correlation=3)
    energy_error, force_error, _ = errors(model, random_structure(5, 6), 0)
    assert energy_error < 1e-12
    assert force_error < 1e-12


def test_without_reflections_only_rotations_count() -> None:
    model = potential("nequip", symmetry="SO3", hidden_irreps="4x0e+3x1e+2x2e", layers=3)
    structure = random_structure(5, 6)
    rotation = Rotation.random(random_state=0).as_matrix()
    images = [structure, turned(structure, rotation), turned(structure, -rotation)]
    prediction = evaluate(model, *images)
    forces = per_structure(prediction.forces, *images)
    np.testing.assert_allclose(prediction.energy[1], prediction.energy[0], rtol=1e-12)
    np.testing.assert_allclose(forces[1], forces[0] @ rotation.T, rtol=0, atol=1e-12)
    # Handedness enters by products of many vectors and is small, but far from rounding.
    assert abs(prediction.energy[2] - prediction.energy[0]) > 1e-7
