"""Losses against sums written out atom by atom."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from mlip.data.graphs import build_graph, collate_graphs
from mlip.data.structures import Structure
from mlip.models import Prediction
from mlip.training.losses import error_sums, weighted_loss


def random_structures(seed: int, count: int) -> list[Structure]:
    """Structures some of whose labels are missing, with weights."""
    rng = np.random.default_rng(seed)
    structures = []
    for i in range(count):
        atoms = int(rng.integers(1, 5))
        structures.append(
            Structure(
                numbers=np.ones(atoms, dtype=np.int64),
                positions=rng.normal(size=(atoms, 3)),
                cell=4 * np.eye(3),
                pbc=np.array([True] * 3),
                energy=rng.normal() if i % 4 else None,
                forces=rng.normal(size=(atoms, 3)) if i % 3 else None,
                stress=rng.normal(size=(3, 3)) if i % 2 else None,
                charges=rng.normal(size=atoms) if i % 5 else None,
                dipole=rng.normal(size=3) if i % 3 != 1 else None,
                total_charge=float(i % 3 - 1),
                weight=float(rng.uniform(0.5, 2)),
            )
        )
    return structures


def random_prediction(structures: Sequence[Structure], seed: int) -> Prediction:
    """Numbers that a model might have predicted, all of them in a graph."""
    generator = torch.Generator().manual_seed(seed)
    atoms, count = sum(map(len, structures)), len(structures)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()  # noqa: E731
    shapes = [(count,), (atoms,), (atoms, 3), (count, 3, 3), (atoms,), (count, 3), (count,)]
    return Prediction(*(draw(*shape) for shape in shapes))


def loss_of(error: float, kind: str, delta: float) -> float:
    """The definitions of the squared error and of Huber's loss."""
    if kind == "mse":
        return error**2
    return 0.5 * error**2 if abs(error) <= delta else delta * (abs(error) - 0.5 * delta)


def expected_sums(structures: Sequence[Structure], prediction: Prediction, kind: str, delta: float) -> np.ndarray:
    """Rows loss, |error|, error², number; columns energy per atom, forces, stress, charges, dipole, total charge."""
    sums = np.zeros((4, 6))
    first = 0
    for i, structure in enumerate(structures):
        errors: list[list[float]] = [[], [], [], [], []]
        errors.append([prediction.total_charge[i].item() - structure.total_charge])
        if structure.energy is not None:
            errors[0] = [(prediction.energy[i].item() - structure.energy) / len(structure)]
        if structure.forces is not None:
            difference = prediction.forces[first : first + len(structure)].detach().numpy() - structure.forces
            errors[1] = difference.ravel().tolist()
        if structure.stress is not None:
            errors[2] = (prediction.stress[i].detach().numpy() - structure.stress).ravel().tolist()
        if structure.charges is not None:
            part = prediction.charges[first : first + len(structure)].detach().numpy()
            errors[3] = (part - structure.charges).tolist()
        if structure.dipole is not None:
            errors[4] = (prediction.dipole[i].detach().numpy() - structure.dipole).tolist()
        for column, values in enumerate(errors):
            for error in values:
                sums[:, column] += [structure.weight * loss_of(error, kind, delta), abs(error), error**2, 1]
        first += len(structure)
    return sums


@pytest.mark.parametrize(("kind", "delta"), [("mse", 1.0), ("huber", 0.3), ("huber", 5.0)])
def test_sums_are_those_of_the_definition(kind: str, delta: float) -> None:
    structures = random_structures(0, 13)
    prediction = random_prediction(structures, 1)
    batch = collate_graphs([build_graph(structure, 3.0) for structure in structures])
    sums = torch.stack(error_sums(prediction, batch, kind, delta)).detach().numpy()
    np.testing.assert_allclose(sums, expected_sums(structures, prediction, kind, delta), rtol=1e-12)


def test_loss_by_hand() -> None:
    # Two structures: energy errors 2 eV in 2 atoms and 0.5 eV in 1 atom, every force component wrong by 0.1 eV/Å.
    structures = [
        Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [0, 0, 1]]), energy=1.0, forces=np.zeros((2, 3))),
        Structure(np.array([1]), np.zeros((1, 3)), energy=-1.0, forces=np.zeros((1, 3)), weight=3.0),
    ]
    energy = torch.tensor([3.0, -0.5], dtype=torch.float64)
    prediction = Prediction(energy, energy, torch.full((3, 3), 0.1, dtype=torch.float64), None)
    batch = collate_graphs([build_graph(structure, 3.0) for structure in structures])
    sums = error_sums(prediction, batch, "mse", 1.0)
    loss = weighted_loss(sums.loss, sums.components, torch.tensor([1.0, 10.0, 7.0, 1.0, 1.0, 1.0], dtype=torch.float64))
    in_energy = (1.0**2 + 3 * 0.5**2) / 2
    in_forces = (6 * 0.01 + 3 * 3 * 0.01) / 9
    assert loss.item() == pytest.approx(in_energy + 10 * in_forces, rel=1e-12)


def test_missing_labels_have_zero_gradient_and_stay_in_the_graph() -> None:
    structures = random_structures(2, 9)
    prediction = random_prediction(structures, 3)
    batch = collate_graphs([build_graph(structure, 3.0) for structure in structures])
    sums = error_sums(prediction, batch, "mse", 1.0)
    weighted_loss(sums.loss, sums.components, torch.ones(6, dtype=torch.float64)).backward()
    for tensor, labelled in (
        (prediction.energy, batch.has_energy),
        (prediction.forces, batch.has_forces[batch.batch]),
        (prediction.stress, batch.has_stress),
        (prediction.charges, batch.has_charges[batch.batch]),
        (prediction.dipole, batch.has_dipole),
    ):
        assert bool(torch.isfinite(tensor.grad).all())
        assert bool((tensor.grad[~labelled] == 0).all())
        assert bool((tensor.grad[labelled] != 0).all())


def test_nothing_labelled_gives_zero_not_nan() -> None:
    structure = Structure(np.array([1]), np.zeros((1, 3)))
    prediction = random_prediction([structure], 0)
    batch = collate_graphs([build_graph(structure, 3.0)])
    sums = error_sums(prediction, batch, "huber", 0.01)
    weights = torch.tensor([1.0] * 5 + [0.0], dtype=torch.float64)  # Every structure has a total charge.
    loss = weighted_loss(sums.loss, sums.components, weights)
    loss.backward()
    assert loss.item() == 0.0
    assert bool((prediction.forces.grad == 0).all())


def test_shares_of_a_batch_add_up_to_it() -> None:
    """What two processes compute from their shares is the loss and the gradient of the whole batch."""
    structures = random_structures(4, 11)
    whole = random_prediction(structures, 5)
    weights = torch.tensor([1.0, 10.0, 100.0, 3.0, 0.3, 2.0], dtype=torch.float64)
    sums = error_sums(whole, collate_graphs([build_graph(s, 3.0) for s in structures]), "huber", 0.5)
    weighted_loss(sums.loss, sums.components, weights).backward()

    atoms = np.cumsum([0, *map(len, structures)])
    parts, losses = [], []
    for rank in range(2):
        chosen = list(range(rank, len(structures), 2))
        rows = np.concatenate([np.arange(atoms[i], atoms[i + 1]) for i in chosen])
        choices = (chosen, rows, rows, chosen, rows, chosen, chosen)
        part = Prediction(*(x.detach()[i].clone().requires_grad_() for x, i in zip(whole, choices, strict=True)))
        batch = collate_graphs([build_graph(structures[i], 3.0) for i in chosen])
        parts.append((part, rows, error_sums(part, batch, "huber", 0.5)))
    count = sum(part_sums.components for *_, part_sums in parts)
    for part, rows, part_sums in parts:
        loss = weighted_loss(part_sums.loss, count, weights)
        loss.backward()
        losses.append(loss.item())
        torch.testing.assert_close(part.forces.grad, whole.forces.grad[rows], rtol=1e-12, atol=0)
    expected = weighted_loss(sums.loss, sums.components, weights).item()
    assert math.isclose(sum(losses), expected, rel_tol=1e-12)
