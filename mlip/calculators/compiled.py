"""Evaluating structures by a compiled potential, in the order of atoms in which its program is fastest."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mlip.calculators.prediction import StructurePrediction, has_volume, open_boundaries
from mlip.calculators.skin import ImageOffsets, Skin
from mlip.data.neighbours import neighbour_list
from mlip.data.structures import COINCIDENCE_DISTANCE, Structure
from mlip.errors import StructureError
from mlip.models.compiled import CompiledPotential, PotentialEvaluation, make_pairs, stress_from_virial
from mlip.models.compiled_charges import Surroundings
from mlip_kernels.inference.pairs import Pairs


class CompiledEvaluator:
    """Evaluates a structure that changes little from call to call.

    Between two builds of the neighbour list only positions, and the images' offsets where the cell changes, are passed
    on, so that the program keeps its arrays.

    Args:
        model: The compiled potential.
        skin: Å; see `mlip.calculators.skin`.

    `builds` counts the neighbour lists built so far.
    """

    def __init__(self, model: CompiledPotential, skin: float) -> None:
        self.model = model
        self.builds = 0
        self._skin = Skin(model.cutoff, skin)
        self._threads = 0

    def __call__(self, structure: Structure) -> StructurePrediction:
        """Energies, forces and, where it is defined, the stress.

        Raises:
            StructureError: no atoms, positions that are not finite, a periodic cell without volume, coinciding atoms.
            UnknownElementError: the model does not know an element.
        """
        # The best order of atoms depends on the threads.
        if self._threads != torch.get_num_threads() or not self._skin.holds(structure):
            self._build(structure)
        self._offsets.follow(structure.cell)
        prepared = Prepared(structure.positions[self._order], self._elements, self._pairs, self._order)
        result = _evaluate(self.model, structure, prepared)
        if result.nearest < COINCIDENCE_DISTANCE:
            structure.validate("the structure")  # Raises, naming the atoms.
        return _prediction(structure, result, self._order, stress=True)

    def _build(self, structure: Structure) -> None:
        self._threads = 0  # A structure that is refused below leaves nothing behind.
        self._skin.renew(structure)
        elements = self.model.element_indices(structure.numbers)
        self._order = self.model.order(elements)
        self._elements = elements[self._order]
        near = neighbour_list(structure.positions[self._order], structure.cell, structure.pbc, self._skin.reach)
        self._pairs = make_pairs(near, structure.cell, len(elements))
        self._offsets = ImageOffsets(near.shifts, structure.cell, self._pairs.offsets)
        self._threads = torch.get_num_threads()
        self.builds += 1


class Prepared(NamedTuple):
    """What a compiled potential takes, atoms in the order in which it is fastest.

    Attributes:
        positions: Å, float64 [atoms, 3].
        elements: int64 [atoms].
        pairs: Those nearer than the cutoff.
        order: Number that each of the atoms has in the structure, int64 [atoms].
    """

    positions: NDArray[np.float64]
    elements: NDArray[np.int64]
    pairs: Pairs
    order: NDArray[np.int64]


def prepare(model: CompiledPotential, structure: Structure) -> Prepared:
    """What the model takes of a structure that is looked at once.

    Raises:
        StructureError: positions that are not finite, or a periodic cell without volume.
        UnknownElementError: the model does not know an element.
    """
    elements = model.element_indices(structure.numbers)
    order = model.order(elements)
    positions = structure.positions[order]
    near = neighbour_list(positions, structure.cell, structure.pbc, model.cutoff)
    return Prepared(positions, elements[order], make_pairs(near, structure.cell, len(elements)), order)


def evaluate_compiled(model: CompiledPotential, structure: Structure, stress: bool = False) -> StructurePrediction:
    """The prediction for a structure that is looked at once; the stress if asked for and defined.

    Raises:
        StructureError: positions that are not finite, or a periodic cell without volume.
        UnknownElementError: the model does not know an element.
    """
    given = prepare(model, structure)
    return _prediction(structure, _evaluate(model, structure, given), given.order, stress)


def _evaluate(model: CompiledPotential, structure: Structure, given: Prepared) -> PotentialEvaluation:
    try:
        return model.evaluate(given.positions, given.elements, given.pairs, surroundings(structure, given.order))
    except StructureError:
        structure.validate("the structure")  # Of coinciding atoms, the numbers here are those of another order.
        raise


def surroundings(structure: Structure, order: NDArray[np.int64]) -> Surroundings:
    """What the energy of charges depends on beside the atoms, which are in this order."""
    charges = None if structure.charges is None else structure.charges[order]
    return Surroundings(structure.cell, structure.pbc, structure.total_charge, charges)


def _prediction(
    structure: Structure, result: PotentialEvaluation, order: NDArray[np.int64], stress: bool
) -> StructurePrediction:
    """The results with atoms in the structure's order."""
    energies, forces = np.empty_like(result.energies), np.empty_like(result.forces)
    energies[order], forces[order] = result.energies, result.forces
    tensor = stress_from_virial(result.virial, structure.cell) if stress and has_volume(structure) else None
    charges = dipole = None
    if result.charges is not None:
        charges = np.empty_like(result.charges)
        charges[order] = result.charges
        dipole = charges @ structure.positions if open_boundaries(structure) else None
    return StructurePrediction(structure, float(energies.sum()), energies, forces, tensor, charges, dipole)
