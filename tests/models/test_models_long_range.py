"""Charges in models: energies against sums written out, derivatives against differences, and what must not change."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.data
import numpy as np
import pytest
import torch
from e3nn.o3 import rand_matrix
from model_cases import ARCHITECTURES, ELEMENTS, batch, evaluate, potential, random_structure
from scipy.special import erf

from mlip.data.structures import Structure
from mlip.errors import ConfigError, DataError, StructureError
from mlip.interop.mace_torch_export import export_mace_torch
from mlip.models import Potential, build_model, load, save, with_backend

COULOMB = 14.399645351950548
ELEMENT_CHARGES = {"H": 0.3, "C": -0.1, "O": -0.6, "Si": 0.5}
KINDS: dict[str, dict[str, Any]] = {
    "predicted": {"charges": "predicted"},
    "equilibrated": {"charges": "equilibrated"},
    "fixed": {"charges": "fixed", "element_charges": ELEMENT_CHARGES},
    "given": {"charges": "fixed"},
}
# Below rounding of forces by differences; an energy jumps by the tolerance where a pair passes the solver's cutoff.
EXACT = 1e-13
SLAB = (True, True, False)


def charged(architecture: str, kind: str, dtype: str = "float64", **options: Any) -> Potential:
    return potential(architecture, dtype, long_range={**KINDS[kind], "tolerance": EXACT, **options})


def structure_of(
    seed: int, atoms: int = 9, pbc: bool | tuple[bool, bool, bool] = False, total: float = 0.0
) -> Structure:
    """A structure that brings charges, which are neutral."""
    charges = np.random.default_rng(seed).normal(size=atoms)
    return replace(random_structure(seed, atoms, pbc), total_charge=total, charges=charges - charges.mean())


def neutral_by_element(structure: Structure) -> Structure:
    """The structure with elements whose `ELEMENT_CHARGES` cancel."""
    return replace(structure, numbers=np.resize([8, 1, 1], len(structure)))


def gaussian_matrix(structure: Structure, cutoff: float) -> np.ndarray:
    """Interaction of Gaussian charges in an open structure, V/e, self energies on the diagonal; pairs farther than the
    onset of the envelope are mixed from it and points."""
    widths = np.minimum(ase.data.covalent_radii[structure.numbers], cutoff / 6)
    gamma = np.sqrt(2 * (widths[:, None] ** 2 + widths[None] ** 2))
    r = np.linalg.norm(structure.positions[:, None] - structure.positions[None], axis=2)
    np.fill_diagonal(r, 1.0)
    a, b = 0.64 * cutoff**2, cutoff**2
    t = np.clip((r**2 - a) / (b - a), 0, 1)
    matrix = COULOMB / r * (1 - (1 - erf(r / gamma)) * (1 - t) ** 2 * (1 + 2 * t))
    np.fill_diagonal(matrix, COULOMB / (np.sqrt(np.pi) * widths))
    return matrix


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", ["fixed", "given"])
def test_fixed_charges_add_the_energy_of_gaussians(architecture: str, kind: str) -> None:
    structure = structure_of(0)
    model, plain = charged(architecture, kind), potential(architecture)
    given = [ELEMENT_CHARGES[ase.data.chemical_symbols[z]] for z in structure.numbers]
    charges = np.array(given) if kind == "fixed" else structure.charges
    difference = evaluate(model, structure).energy - evaluate(plain, structure).energy
    expected = 0.5 * charges @ gaussian_matrix(structure, model.cutoff) @ charges
    assert float(difference) == pytest.approx(expected, rel=1e-10)


def outputs_of(model: Potential, structure: Structure) -> np.ndarray:
    """What the network reads out beside the energy, biases added, [atoms, outputs]."""
    seen = []
    handle = model.network.register_forward_hook(lambda module, given, result: seen.append(result.detach()))
    evaluate(model, structure)
    handle.remove()
    return seen[0][:, 1:].numpy()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_predicted_charges_are_outputs_moved_to_the_total_charge(architecture: str) -> None:
    model, structure = charged(architecture, "predicted"), structure_of(1, total=-1.0)
    raw = 0.1 * outputs_of(model, structure)[:, 0]
    prediction = evaluate(model, structure)
    expected = raw + (-1.0 - raw.sum()) / len(structure)
    np.testing.assert_allclose(prediction.charges.numpy(), expected, rtol=0, atol=1e-12)
    assert float(prediction.total_charge) == pytest.approx(raw.sum(), rel=1e-12)
    np.testing.assert_allclose(prediction.dipole.numpy(), [expected @ structure.positions], rtol=0, atol=1e-11)
    other = evaluate(model, replace(structure, total_charge=1.0))
    np.testing.assert_allclose((other.charges - prediction.charges).numpy(), 2.0 / len(structure), atol=1e-12)
    matrix = gaussian_matrix(structure, model.cutoff)
    difference = 0.5 * (other.charges.numpy() @ matrix @ other.charges.numpy() - expected @ matrix @ expected)
    assert float(other.energy - prediction.energy) == pytest.approx(difference, rel=1e-10)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equilibrated_charges_solve_the_dense_problem(architecture: str) -> None:
    model, structure = charged(architecture, "equilibrated"), structure_of(2, total=1.0)
    electronegativity, hardness = outputs_of(model, structure).T
    hardness = np.logaddexp(0.0, hardness)
    matrix = gaussian_matrix(structure, model.cutoff) + np.diag(hardness)
    ones = np.ones((len(structure), 1))
    system = np.block([[matrix, ones], [ones.T, np.zeros((1, 1))]])
    expected = np.linalg.solve(system, np.append(-electronegativity, 1.0))[:-1]
    prediction = evaluate(model, structure)
    np.testing.assert_allclose(prediction.charges.numpy(), expected, rtol=0, atol=1e-9)
    # The total charge enters by the electrostatics alone.
    other = evaluate(model, replace(structure, total_charge=0.0))
    energies = [
        electronegativity @ q + 0.5 * q @ matrix @ q for q in (prediction.charges.numpy(), other.charges.numpy())
    ]
    assert float(prediction.energy - other.energy) == pytest.approx(energies[0] - energies[1], rel=1e-9)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pbc", [False, True, SLAB], ids=["open", "periodic", "slab"])
def test_forces_and_stress_are_derivatives(architecture: str, kind: str, pbc: Any) -> None:
    model, structure = charged(architecture, kind), structure_of(3, 9, pbc)
    if kind == "fixed":
        structure = neutral_by_element(structure)
    prediction = evaluate(model, structure, stress=pbc is True)
    rng = np.random.default_rng(0)
    moved = rng.normal(size=structure.positions.shape)
    strain = rng.normal(size=(3, 3)) * 0.3
    strain = strain + strain.T

    def energy(step: float, strained: bool) -> float:
        deformation = np.eye(3) + step * strain if strained else np.eye(3)
        positions = structure.positions @ deformation if strained else structure.positions + step * moved
        changed = replace(structure, positions=positions, cell=structure.cell @ deformation)
        return float(model(batch(changed, cutoff=model.cutoff), forces=False).energy)

    def slope(strained: bool, h: float = 1e-3) -> float:
        near, far = (energy(k * h, strained) - energy(-k * h, strained) for k in (1, 2))
        return (8 * near - far) / (12 * h)

    assert -(prediction.forces.numpy() * moved).sum() == pytest.approx(slope(False), rel=1e-7, abs=1e-7)
    if pbc is True:
        volume = abs(np.linalg.det(structure.cell))
        assert volume * (prediction.stress[0].numpy() * strain).sum() == pytest.approx(slope(True), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("kind", ["predicted", "equilibrated", "given"])
@pytest.mark.parametrize("pbc", [False, True], ids=["open", "periodic"])
def test_gradients_of_a_loss(kind: str, pbc: bool) -> None:
    """A loss on energy, forces, stress, charges and dipole, differentiated by all parameters at once."""
    model = charged("mace", kind, trainable_widths=True).train()
    graph = batch(structure_of(4, 6, pbc), structure_of(5, 5), cutoff=model.cutoff)

    def loss() -> torch.Tensor:
        prediction = model(graph, stress=True)
        parts = (prediction.energy, prediction.forces, 10 * prediction.stress, prediction.charges, prediction.dipole)
        return sum((part.square().sum() for part in parts), torch.zeros(()))

    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss(), parameters, allow_unused=True, materialize_grads=True)
    widths = dict(zip((name for name, _ in model.named_parameters()), gradients, strict=True))[
        "long_range.width_logits"
    ]
    assert widths.abs().min() > 0
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]

    def shifted(step: float) -> float:
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += step * direction
        value = loss().item()
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter -= step * direction
        return value

    h = 1e-4
    numeric = (8 * (shifted(h) - shifted(-h)) - (shifted(2 * h) - shifted(-2 * h))) / (12 * h)
    exact = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    assert exact == pytest.approx(numeric, rel=1e-7)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", KINDS)
def test_symmetries(architecture: str, kind: str) -> None:
    model, structure = charged(architecture, kind), structure_of(6, total=1.0)
    before = evaluate(model, structure)
    torch.manual_seed(0)
    rotation = -rand_matrix(dtype=torch.float64).numpy()
    order = np.random.default_rng(0).permutation(len(structure))
    moved = Structure(
        structure.numbers[order],
        (structure.positions @ rotation.T + [5.0, -3.0, 2.0])[order],
        total_charge=1.0,
        charges=structure.charges[order],
    )
    after = evaluate(model, moved)
    assert float(after.energy) == pytest.approx(float(before.energy), rel=1e-9)
    np.testing.assert_allclose(after.charges.numpy(), before.charges.numpy()[order], rtol=0, atol=1e-9)
    np.testing.assert_allclose(after.forces.numpy(), (before.forces.numpy() @ rotation.T)[order], rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_periodic_images_and_repeated_cells(kind: str) -> None:
    """Twice the cell has twice the energy, and atoms may be given in any cell."""
    model, structure = charged("mace", kind), structure_of(7, 6, True, total=0.0)
    if kind == "fixed":
        structure = neutral_by_element(structure)
    once = evaluate(model, structure)
    doubled = Structure(
        np.tile(structure.numbers, 2),
        np.concatenate([structure.positions, structure.positions + structure.cell[1] + 3 * structure.cell[2]]),
        structure.cell * [[1], [2], [1]],
        structure.pbc,
        charges=np.tile(structure.charges, 2),
    )
    twice = evaluate(model, doubled)
    assert float(twice.energy) == pytest.approx(2 * float(once.energy), rel=1e-9)
    np.testing.assert_allclose(twice.charges.numpy(), np.tile(once.charges.numpy(), 2), rtol=0, atol=1e-9)
    np.testing.assert_allclose(twice.forces.numpy(), np.tile(once.forces.numpy(), (2, 1)), rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_molecules_far_apart_add_up(kind: str) -> None:
    """With total charges that each has alone: neutral ones, 1e5 Å from one another."""
    model, structure = charged("nequip", kind), structure_of(8, 6)
    if kind == "fixed":
        structure = neutral_by_element(structure)
    alone = evaluate(model, structure)
    positions = np.concatenate([structure.positions, structure.positions + np.array([1e5, 0, 0])])
    pair = Structure(np.tile(structure.numbers, 2), positions, charges=np.tile(structure.charges, 2))
    together = evaluate(model, pair)
    assert float(together.energy) == pytest.approx(2 * float(alone.energy), rel=1e-8)
    np.testing.assert_allclose(together.forces.numpy(), np.tile(alone.forces.numpy(), (2, 1)), rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", ["predicted", "given"])
def test_ions_far_apart_attract_as_points(kind: str) -> None:
    """Of charges that molecules keep, the energy is −k/r to the dipoles' order, and forces follow it."""
    model = charged("mace", kind)
    molecule = structure_of(9, 6)
    energies = []
    for distance in (4000.0, 8000.0):
        numbers = np.tile(molecule.numbers, 2)
        positions = np.concatenate([molecule.positions, molecule.positions + np.array([distance, 0, 0])])
        charges = np.concatenate([molecule.charges + 1 / 6, molecule.charges - 1 / 6])
        energies.append(float(evaluate(model, Structure(numbers, positions, charges=charges)).energy))
    if kind == "predicted":  # Equal molecules share a neutral charge equally.
        assert energies[0] == pytest.approx(energies[1], abs=1e-4)
    else:
        assert energies[0] - energies[1] == pytest.approx(COULOMB * (1 / 8000 - 1 / 4000), rel=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_structures(kind: str) -> None:
    model = charged("mace", kind)
    parts = [structure_of(10, 5, total=1.0), structure_of(11, 6, True), structure_of(12, 1), structure_of(13, 6, SLAB)]
    if kind == "fixed":
        parts[1::2] = map(neutral_by_element, parts[1::2])
    together = model(batch(*parts, cutoff=model.cutoff), stress=True)
    first = 0
    for number, structure in enumerate(parts):
        alone = evaluate(model, structure, stress=True)
        rows = slice(first, first + len(structure))
        assert float(together.energy[number]) == pytest.approx(float(alone.energy), rel=1e-11)
        np.testing.assert_allclose(together.forces[rows], alone.forces, rtol=0, atol=1e-9)
        np.testing.assert_allclose(together.charges[rows], alone.charges, rtol=0, atol=1e-9)
        np.testing.assert_allclose(together.stress[number], alone.stress[0], rtol=0, atol=1e-10)
        np.testing.assert_allclose(together.dipole[number], alone.dipole[0], rtol=0, atol=1e-8)
        first += len(structure)


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision(kind: str) -> None:
    structure = neutral_by_element(structure_of(14, 6, True))
    exact, rough = (evaluate(charged("mace", kind, dtype), structure) for dtype in ("float64", "float32"))
    assert rough.charges.dtype == torch.float64
    np.testing.assert_allclose(rough.charges.numpy(), exact.charges.numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(rough.forces.numpy(), exact.forces.numpy(), rtol=0, atol=1e-3)
    if kind in ("fixed", "given"):
        assert torch.equal(rough.charges, exact.charges)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", KINDS)
def test_model_file(architecture: str, kind: str, tmp_path: Path) -> None:
    model, structure = charged(architecture, kind, trainable_widths=True, widths={"O": 0.5}), structure_of(15)
    with torch.no_grad():
        for parameter in model.long_range.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    save(model, tmp_path / "model.mlip")
    again = load(tmp_path / "model.mlip")
    assert again.config == model.config
    for name in ("energy", "forces", "charges"):
        assert torch.equal(getattr(evaluate(again, structure), name), getattr(evaluate(model, structure), name))
    other = with_backend(model, "clebsch_gordan")
    assert float(evaluate(other, structure).energy) == pytest.approx(float(evaluate(model, structure).energy), rel=1e-9)


def test_widths() -> None:
    model = potential("mace", long_range={"charges": "predicted", "widths": {"O": 0.4}})
    radii = ase.data.covalent_radii[[1, 6, 8, 14]]
    expected = np.minimum([radii[0], radii[1], 0.4, radii[3]], model.cutoff / 6)
    np.testing.assert_allclose(model.long_range.widths.values, expected)


def test_models_with_charges_are_not_exported(tmp_path: Path) -> None:
    model = charged("mace", "predicted")
    with pytest.raises(ConfigError, match="charges"):
        export_mace_torch(model, tmp_path / "mace.model")


def test_missing_charges_are_named() -> None:
    structure = structure_of(16)
    with pytest.raises(DataError, match="takes the charges of atoms from the structure, which has none"):
        evaluate(charged("mace", "given"), replace(structure, charges=None))


@pytest.mark.parametrize("kind", ["predicted", "equilibrated"])
def test_a_charged_slab_is_refused(kind: str) -> None:
    with pytest.raises(StructureError, match="charge"):
        evaluate(charged("mace", kind), structure_of(17, 6, SLAB, total=1.0))


@pytest.mark.parametrize(
    ("long_range", "message"),
    [
        ("predicted", "'long_range: 'predicted'' .* give keys and values instead; the keys are 'charges', 'element_ch"),
        ({"charges": "guessed"}, "'long_range.charges: 'guessed''"),
        ({"charge": "fixed"}, "did you mean 'charges'"),
        ({}, "'long_range.charges' is missing"),
        ({"charges": "predicted", "element_charges": {"H": 1.0}}, "element_charges go with 'charges: fixed'"),
        ({"charges": "fixed", "element_charges": {"H": 1.0}}, "has no charge of C"),
        ({"charges": "predicted", "widths": {"Xe": 1.0}}, "names 'Xe'"),
        ({"charges": "predicted", "widths": {"H": -1.0}}, "greater than 0"),
        (
            {"charges": "predicted", "widths": {"H": 0.9}},
            "0.9 Å for H, which is more than a sixth of the cutoff; take 0.8333 Å",
        ),
        ({"charges": "predicted", "tolerance": 1.0}, "less than 0.1"),
    ],
)
def test_wrong_configurations(long_range: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model({"architecture": "mace", "elements": ELEMENTS, "long_range": long_range})
