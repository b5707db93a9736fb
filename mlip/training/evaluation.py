"""A model on labelled structures: its error table, and references and predictions side by side for parity plots."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlip.calculators.evaluation import evaluate_structures
from mlip.data.structures import Structure
from mlip.models import Potential
from mlip.training.metrics import ErrorTable

Pairs = list[NDArray[np.float64]]


@dataclass
class Evaluation:
    """Errors, and per property pairs [n, 2] of reference and prediction.

    Energies are those left after the reference energies, per atom (eV/atom), so that molecules of all sizes share one
    axis; forces (eV/Å) and stresses (eV/Å³) are Cartesian components.
    """

    errors: ErrorTable
    energy: NDArray[np.float64]
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]


def evaluate(model: Potential, structures: Iterable[Structure], *, max_edges: int, stress: bool) -> Evaluation:
    """Evaluate a model on structures with labels, in batches of at most `max_edges` edges."""
    errors = ErrorTable()
    energy: Pairs = []
    forces: Pairs = []
    stresses: Pairs = []
    reference = model.config.reference_energies
    # Charges that structures bring are no predictions.
    brought = model.config.long_range is not None and model.config.long_range.brought
    for result in evaluate_structures(model, structures, max_edges=max_edges, stress=stress):
        structure = result.structure
        charges = None if brought else result.charges
        errors.add(structure, result.energy, result.forces, result.stress, charges, result.dipole)
        if structure.energy is not None:
            isolated = sum(reference.get(chemical_symbols[number], 0.0) for number in structure.numbers)
            both = np.array([[structure.energy, result.energy]])
            energy.append((both - isolated) / len(structure))
        if structure.forces is not None:
            forces.append(_side_by_side(structure.forces, result.forces))
        if structure.stress is not None and result.stress is not None:
            stresses.append(_side_by_side(structure.stress, result.stress))
    return Evaluation(errors, _joined(energy), _joined(forces), _joined(stresses))


def _side_by_side(reference: NDArray[np.float64], prediction: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([reference.ravel(), prediction.ravel()], axis=1)


def _joined(pairs: Pairs) -> NDArray[np.float64]:
    return np.concatenate(pairs) if pairs else np.zeros((0, 2))
