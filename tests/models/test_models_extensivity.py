"""Energies add up: copies, supercells, batches, isolated atoms, and pairs that cross the cutoff."""

from dataclasses import replace

import ase.data
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import (
    ARCHITECTURES,
    CUTOFF,
    ELEMENTS,
    batch,
    evaluate,
    per_structure,
    potential,
    random_config,
    random_structure,
)

from mlip.data.graphs import AtomicGraph, build_graph
from mlip.data.structures import Structure
from mlip.models import Potential, build_model

REFERENCES = {"H": -13.6, "C": -1034.7, "O": -2043.2, "Si": -9000.123456789}
CARBON = 6


def structure_of(symbols: list[str], positions: list[list[float]]) -> Structure:
    return Structure(np.array([ase.data.atomic_numbers[symbol] for symbol in symbols]), np.array(positions, float))


def supercell(structure: Structure, repeats: tuple[int, int, int]) -> Structure:
    images = np.array(np.meshgrid(*map(range, repeats), indexing="ij")).reshape(3, -1).T
    positions = (structure.positions + (images @ structure.cell)[:, None]).reshape(-1, 3)
    cell = structure.cell * np.array(repeats)[:, None]
    return replace(structure, numbers=np.tile(structure.numbers, len(images)), positions=positions, cell=cell)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_two_copies_far_apart(architecture: str) -> None:
    model = potential(architecture, reference_energies=REFERENCES)
    molecule = random_structure(1, 7)
    far = np.concatenate([molecule.positions, molecule.positions + np.array([300.0, -20.0, 7.0])])
    copies = Structure(np.tile(molecule.numbers, 2), far)
    single, double = evaluate(model, molecule), evaluate(model, copies)
    np.testing.assert_allclose(double.energies, single.energies.repeat(2), rtol=1e-12)
    np.testing.assert_allclose(double.energy, 2 * single.energy, rtol=1e-13)
    np.testing.assert_allclose(double.forces, single.forces.repeat(2, 1), rtol=0, atol=1e-11)


@pytest.mark.parametrize("repeats", [(2, 1, 1), (1, 2, 3)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_supercells(architecture: str, repeats: tuple[int, int, int]) -> None:
    """Also of a cell that is smaller than the cutoff, where an atom is its own neighbour."""
    model = potential(architecture)
    count = int(np.prod(repeats))
    for size in (1.0, 0.6):
        unit = random_structure(2, 2 if size < 1.0 else 5, True)
        unit = replace(unit, cell=unit.cell * size)
        single, multiple = evaluate(model, unit, stress=True), evaluate(model, supercell(unit, repeats), stress=True)
        np.testing.assert_allclose(multiple.energies, single.energies.repeat(count), rtol=1e-12)
        np.testing.assert_allclose(multiple.forces, single.forces.repeat(count, 1), rtol=0, atol=1e-12)
        np.testing.assert_allclose(multiple.stress, single.stress, rtol=0, atol=1e-13)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_atoms_outside_the_cell_are_the_same_atoms(architecture: str) -> None:
    model = potential(architecture)
    inside = random_structure(3, 5, True)
    shifts = np.random.default_rng(0).integers(-2, 3, size=(5, 3))
    outside = replace(inside, positions=inside.positions + shifts @ inside.cell)
    first, second = evaluate(model, inside, stress=True), evaluate(model, outside, stress=True)
    for a, b in zip(first[:4], second[:4], strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-12)


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_a_batch_is_its_structures_one_by_one(seed: int, sizes: list[int]) -> None:
    model = build_model(random_config(seed), "float64").eval()
    periodicities = [False, True, (True, True, False)]
    structures = [random_structure(seed + i, size, periodicities[i % 3]) for i, size in enumerate(sizes)]
    together = evaluate(model, *structures, stress=True)
    forces, energies = per_structure(together.forces, *structures), per_structure(together.energies, *structures)
    for number, structure in enumerate(structures):
        # A graph by itself, without PyG's batch, works too.
        alone = model(build_graph(structure, CUTOFF), stress=True)
        np.testing.assert_allclose(together.energy[number], alone.energy[0], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(energies[number], alone.energies, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(forces[number], alone.forces, rtol=0, atol=1e-11)
        np.testing.assert_allclose(together.stress[number], alone.stress[0], rtol=0, atol=1e-11)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_energy_is_the_sum_over_atoms(architecture: str) -> None:
    structures = [random_structure(1, 5), random_structure(2, 3, True)]
    prediction = evaluate(potential(architecture, "float32", reference_energies=REFERENCES), *structures)
    assert prediction.energy.dtype == prediction.energies.dtype == prediction.forces.dtype == torch.float64
    sums = [part.sum() for part in per_structure(prediction.energies, *structures)]
    np.testing.assert_allclose(prediction.energy, sums, rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("zbl", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_atoms_without_neighbours(architecture: str, zbl: bool, dtype: str) -> None:
    """Alone, far apart, beside a molecule in a batch, in a wide cell: always the same energy and no force."""
    model = potential(architecture, dtype, reference_energies=REFERENCES, zbl=zbl)
    alone = {symbol: structure_of([symbol], [[0.3, -0.2, 9.0]]) for symbol in ELEMENTS}
    energies = {symbol: evaluate(model, structure).energy.item() for symbol, structure in alone.items()}
    assert len(set(energies.values())) == len(ELEMENTS)
    dimer = structure_of(["H", "O"], [[0, 0, 0], [0, 0, CUTOFF + 1e-9]])
    boxed = Structure(np.array([CARBON]), np.zeros((1, 3)), np.eye(3) * 9.0, np.ones(3, bool))
    molecule = random_structure(1, 6)
    batches = [[dimer], [boxed], [dimer, alone["C"], boxed], [alone["Si"], molecule, dimer, alone["H"]]]
    for structures in batches:
        prediction = evaluate(model, *structures, stress=True)
        forces = per_structure(prediction.forces, *structures)
        for number, structure in enumerate(structures):
            if structure is molecule:
                expected = evaluate(model, molecule)
                np.testing.assert_allclose(forces[number], expected.forces, rtol=0, atol=1e-4)
                continue
            symbols = [ase.data.chemical_symbols[z] for z in structure.numbers]
            expected = sum(energies[symbol] for symbol in symbols)
            assert prediction.energy[number].item() == pytest.approx(expected, rel=1e-15, abs=1e-6)
            assert not forces[number].any()
            assert not prediction.stress[number].any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_edges_can_be_trained_on(architecture: str) -> None:
    model = potential(architecture).train()
    prediction = model(batch(structure_of(["H"], [[0, 0, 0]])), stress=True)
    loss = prediction.energy.sum() + (prediction.forces**2).sum() + (prediction.stress**2).sum()
    loss.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_reference_energies_are_exact_in_a_float32_model(architecture: str) -> None:
    structure = random_structure(1, 8)
    bare = potential(architecture, "float32")
    shifted = potential(architecture, "float32", reference_energies=REFERENCES)
    symbols = [ase.data.chemical_symbols[z] for z in structure.numbers]
    assert "Si" in symbols
    references = [REFERENCES[symbol] for symbol in symbols]
    difference = evaluate(shifted, structure).energies - evaluate(bare, structure).energies
    np.testing.assert_allclose(difference, references, rtol=0, atol=1e-9)
    assert shifted.half().float().reference_energies.values.tolist() == [REFERENCES[symbol] for symbol in ELEMENTS]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scale_and_shift_by_element(architecture: str) -> None:
    """E_i = reference + scale * network + shift, by comparison with a model whose scale is one."""
    scale, shift = {"H": 0.1, "C": 0.7, "O": 3.3, "Si": 1.1}, {"H": -0.1, "C": 0.3, "O": 1.7, "Si": 0.0}
    structure = random_structure(1, 8)
    plain = evaluate(potential(architecture), structure)
    model = potential(architecture, scale=scale, shift=shift, reference_energies=REFERENCES)
    symbols = [ase.data.chemical_symbols[z] for z in structure.numbers]
    expected = [REFERENCES[s] + scale[s] * e + shift[s] for s, e in zip(symbols, plain.energies.tolist(), strict=True)]
    np.testing.assert_allclose(evaluate(model, structure).energies, expected, rtol=1e-14)
    uniform = evaluate(potential(architecture, scale=0.1), structure)
    np.testing.assert_allclose(uniform.forces, 0.1 * plain.forces, rtol=0, atol=1e-14)
    missing = evaluate(potential(architecture, reference_energies={"H": -13.6}), structure)
    expected = plain.energies + torch.tensor([-13.6 if s == "H" else 0.0 for s in symbols], dtype=torch.float64)
    np.testing.assert_allclose(missing.energies, expected, rtol=1e-14)


def repulsion_of_a_pair(architecture: str, distance: float) -> tuple[float, float, torch.Tensor]:
    """What ZBL adds to the energies of two atoms."""
    pair = structure_of(["C", "O"], [[0, 0, 0], [0, 0, distance]])
    plain, repelled = (evaluate(potential(architecture, zbl=zbl), pair) for zbl in (False, True))
    return (
        (repelled.energy - plain.energy).item(),
        (repelled.forces - plain.forces)[1, 2].item(),
        repelled.energies - plain.energies,
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_zbl_repels_at_short_range_and_is_shared_equally(architecture: str) -> None:
    energy, force, energies = repulsion_of_a_pair(architecture, 0.3)
    step = 1e-5
    ends = [repulsion_of_a_pair(architecture, 0.3 + sign * step)[0] for sign in (-1, 1)]
    assert energy > 100.0
    assert force == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)
    assert energies[0] == pytest.approx(energies[1].item(), rel=1e-12)
    assert repulsion_of_a_pair(architecture, 0.1)[0] > 3 * energy
    # Beyond the sum of the covalent radii, 0.76 + 0.66 Å.
    assert repulsion_of_a_pair(architecture, 1.43)[:2] == (0.0, 0.0)


def crossing(model: Potential, offset: float) -> tuple[float, np.ndarray]:
    """Energy and forces of a water-like trimer and an atom at the cutoff plus `offset` from one of its atoms alone."""
    structure = structure_of(
        ["O", "H", "H", "C"], [[0, 0, 0], [0.9, 0, 0], [-0.3, 0.9, 0], [0.9 + model.cutoff + offset, 0, 0]]
    )
    prediction = evaluate(model, structure)
    return prediction.energy.item(), prediction.forces.numpy()


@pytest.mark.parametrize("changes", [{}, {"radial_basis": "gaussian", "cutoff_power": 3}, {"layers": 3}], ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_energy_and_forces_are_continuous_through_the_cutoff(architecture: str, changes: dict[str, object]) -> None:
    """The envelope ends with a zero of third order: energies differ by h^3, forces by h^2, second derivatives by h."""
    model = potential(architecture, **changes)
    beyond_energy, beyond_forces = crossing(model, 1e-3)
    assert not beyond_forces[3].any()
    previous = None
    for step in (1e-2, 1e-3, 1e-4):
        energy, forces = crossing(model, -step)
        changes_now = abs(energy - beyond_energy), np.abs(forces - beyond_forces).max()
        if previous is not None:
            assert changes_now[0] < previous[0] / 500 + 1e-14
            assert changes_now[1] < previous[1] / 50 + 1e-13
        previous = changes_now
    assert changes_now[0] < 1e-10
    assert changes_now[1] < 1e-7
    # The second derivative by differences of the force on the far atom, on either side: finite and meeting at zero.
    curvatures = [crossing(model, -step)[1][3, 0] / step for step in (1e-2, 1e-3, 1e-4)]
    assert abs(curvatures[2]) <= abs(curvatures[1]) / 5 + 1e-12
    assert abs(curvatures[1]) <= abs(curvatures[0]) / 5 + 1e-12


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_zbl_of_large_atoms_is_continuous_through_a_short_cutoff(architecture: str) -> None:
    """The covalent radii of two caesium atoms, 2 x 2.44 Å, sum to more than the cutoff."""
    model = potential(architecture, elements=["Cs"], zbl=True)
    energies = [
        evaluate(model, structure_of(["Cs", "Cs"], [[0, 0, 0], [0, 0, CUTOFF + offset]])) for offset in (-1e-4, 1e-4)
    ]
    assert energies[0].energy.item() == pytest.approx(energies[1].energy.item(), abs=1e-8)
    np.testing.assert_allclose(energies[0].forces, energies[1].forces, rtol=0, atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_order_of_edges_within_a_receiver_does_not_matter(architecture: str) -> None:
    model = potential(architecture)
    graph = batch(random_structure(1, 7, True))
    generator = torch.Generator().manual_seed(0)
    shuffled = torch.randperm(graph.edge_index.shape[1], generator=generator)
    order = shuffled[torch.argsort(graph.edge_index[1][shuffled], stable=True)]
    other = AtomicGraph(**(graph.to_dict() | {"edge_index": graph.edge_index[:, order]}))
    other.edge_offsets = graph.edge_offsets[order]
    for a, b in zip(model(graph, stress=True)[:4], model(other, stress=True)[:4], strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-12)
