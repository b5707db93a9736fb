"""What a data set holds, gathered from a stream of structures."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
from ase.data import chemical_symbols

from mlip.data.labels import PROPERTIES, Property
from mlip.data.structures import Structure


@dataclass
class Range:
    """Smallest and largest of the values seen."""

    low: float = np.inf
    high: float = -np.inf

    def add(self, values: float | np.ndarray) -> None:
        """Take more values into account."""
        self.low = min(self.low, float(np.min(values)))
        self.high = max(self.high, float(np.max(values)))


@dataclass
class DatasetSummary:
    """Counts and ranges of a data set; `add` takes one structure after the other.

    Ranges: atoms per structure, energy per atom in eV, norm of the force on an atom in eV/Å, components of the stress
    in eV/Å³, charge of an atom in e, components of the dipole in e Å. `elements` counts atoms, the other counters count
    structures. A duplicate is a structure whose atomic numbers, positions, cell and total charge equal those of an
    earlier one to the last bit.
    """

    frames: int = 0
    atoms: int = 0
    duplicates: int = 0
    labels: dict[Property, int] = field(default_factory=lambda: dict.fromkeys(PROPERTIES, 0))
    elements: Counter[str] = field(default_factory=Counter)
    config_types: Counter[str] = field(default_factory=Counter)
    periodicity: Counter[int] = field(default_factory=Counter)
    size: Range = field(default_factory=Range)
    energy: Range = field(default_factory=Range)
    force: Range = field(default_factory=Range)
    stress: Range = field(default_factory=Range)
    charge: Range = field(default_factory=Range)
    dipole: Range = field(default_factory=Range)
    total_charges: Counter[float] = field(default_factory=Counter)
    _seen: set[bytes] = field(default_factory=set)

    def add(self, structure: Structure) -> None:
        """Take one more structure into account."""
        count = len(structure)
        self.frames += 1
        self.atoms += count
        self.size.add(count)
        self.config_types[structure.config_type] += 1
        self.periodicity[int(structure.pbc.sum())] += 1
        numbers, atom_counts = np.unique(structure.numbers, return_counts=True)
        for number, atom_count in zip(numbers, atom_counts.tolist(), strict=True):
            self.elements[chemical_symbols[number]] += atom_count
        self.total_charges[structure.total_charge] += 1
        self._add_labels(structure)
        digest = _digest(structure)
        self.duplicates += digest in self._seen
        self._seen.add(digest)

    def _add_labels(self, structure: Structure) -> None:
        if structure.energy is not None:
            self.labels["energy"] += 1
            self.energy.add(structure.energy / len(structure))
        if structure.forces is not None:
            self.labels["forces"] += 1
            self.force.add(np.linalg.norm(structure.forces, axis=1))
        if structure.stress is not None:
            self.labels["stress"] += 1
            self.stress.add(structure.stress)
        if structure.charges is not None:
            self.labels["charges"] += 1
            self.charge.add(structure.charges)
        if structure.dipole is not None:
            self.labels["dipole"] += 1
            self.dipole.add(structure.dipole)

    def watch(self, structures: Iterable[Structure]) -> Iterator[Structure]:
        """Hand structures through and take each into account."""
        for structure in structures:
            self.add(structure)
            yield structure


def _digest(structure: Structure) -> bytes:
    charge = np.array(structure.total_charge)
    arrays = (structure.numbers, structure.positions, structure.cell[structure.pbc], structure.pbc, charge)
    return blake2b(b"".join(array.tobytes() for array in arrays), digest_size=16).digest()
