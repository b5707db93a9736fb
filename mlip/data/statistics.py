"""What a model takes from its data before it is trained: reference energies, scales and the number of neighbours."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from mlip.data.dataset import GraphDataset
from mlip.data.neighbours import neighbour_list
from mlip.data.structures import Structure
from mlip.errors import DataError, UnknownElementError

# An atom without an image in this distance stands alone: bonds and metals (caesium: 5.2 Å) are shorter.
_ISOLATION_DISTANCE = 6.0  # Å
_SAME_ENERGY = 1e-6  # eV


class DatasetStatistics(NamedTuple):
    """Statistics of a data set; eV, eV/Å. Those of a label that no structure has are None."""

    average_neighbours: float
    force_rms: float | None
    energy_mean: float | None
    energy_std: float | None


def fit_reference_energies(structures: Iterable[Structure], elements: Sequence[str]) -> dict[str, float]:
    """Energy of each element (eV) by least squares of total energies on compositions.

    Where the compositions do not determine it (a single molecule, for example), the solution of least norm is taken.
    Structures without an energy are passed over. Raises DataError if none has one, UnknownElementError for an element
    that is not in `elements`.
    """
    index = {atomic_numbers[symbol]: column for column, symbol in enumerate(elements)}
    counts, energies = [], []
    for structure in structures:
        if structure.energy is None:
            continue
        row = np.zeros(len(elements))
        for number, count in zip(*np.unique(structure.numbers, return_counts=True), strict=True):
            if int(number) not in index:
                raise UnknownElementError(
                    f"a structure holds {chemical_symbols[number]}, and the elements are {', '.join(elements)}; "
                    "add it to the elements, or remove the structure"
                )
            row[index[int(number)]] = count
        counts.append(row)
        energies.append(structure.energy)
    if not energies:
        raise DataError("no structure has an energy to fit reference energies to; give the energies of the elements")
    solution = np.linalg.lstsq(np.array(counts), np.array(energies))[0]
    return dict(zip(elements, solution.tolist(), strict=True))


def isolated_atom_energies(structures: Iterable[Structure]) -> dict[str, float]:
    """Energies (eV) of the structures that are one atom, with no periodic image within 6 Å, by element.

    Raises DataError for two atoms of an element with different energies.
    """
    energies: dict[str, float] = {}
    for structure in structures:
        if len(structure) != 1 or structure.energy is None or not _is_isolated(structure):
            continue
        symbol = chemical_symbols[int(structure.numbers[0])]
        known = energies.setdefault(symbol, structure.energy)
        if abs(known - structure.energy) > _SAME_ENERGY:
            raise DataError(
                f"the isolated atom {symbol} has two energies, {known} and {structure.energy} eV; keep the right one"
            )
    return energies


def _is_isolated(structure: Structure) -> bool:
    pairs = neighbour_list(structure.positions, structure.cell, structure.pbc, _ISOLATION_DISTANCE)
    return len(pairs.senders) == 0


def dataset_statistics(dataset: GraphDataset, reference_energies: Mapping[str, float]) -> DatasetStatistics:
    """Average number of neighbours, root mean square of force components, and mean and standard deviation over
    structures of the energy per atom left after the reference energies (a missing element counts 0 eV)."""
    per_number = np.zeros(len(chemical_symbols))
    for symbol, energy in reference_energies.items():
        per_number[atomic_numbers[symbol]] = energy
    residuals: list[float] = []
    squares, components = 0.0, 0
    for structure in dataset.structures():
        if structure.energy is not None:
            residuals.append((structure.energy - per_number[structure.numbers].sum()) / len(structure))
        if structure.forces is not None:
            squares += float(np.square(structure.forces).sum())
            components += structure.forces.size
    return DatasetStatistics(
        average_neighbours=int(dataset.edge_counts.sum()) / max(int(dataset.num_atoms.sum()), 1),
        force_rms=(squares / components) ** 0.5 if components else None,
        energy_mean=float(np.mean(residuals)) if residuals else None,
        energy_std=float(np.std(residuals)) if residuals else None,
    )
