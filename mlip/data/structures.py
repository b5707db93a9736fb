"""A structure with its labels, independent of any file format, and the checks it has to pass."""

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from mlip.data.labels import DEFAULT_KEYS, PER_ATOM, PROPERTIES, LabelKeys, read_labels, read_total_charge
from mlip.data.neighbours import check_geometry, neighbour_list
from mlip.errors import DataError, StructureError

# Two nuclei are never this near (H2 is 0.74 Å long, 0.01 Å costs keV), while copies that differ by the last printed
# digit of a coordinate are.
COINCIDENCE_DISTANCE = 0.01  # Å
# Close contacts are looked for with a cutoff of the mean atomic spacing, within these bounds: the search grid of a tiny
# one would have millions of cells.
_CONTACT_CUTOFFS = (2.0, 6.0)  # Å
_HEAVIEST_ELEMENT = len(chemical_symbols) - 1


@dataclass(frozen=True, eq=False)
class Structure:
    """Atoms, cell, total charge and labels; eV, Å, eV/Å, eV/Å³, e, e Å.

    numbers [N] int64, positions [N, 3], cell [3, 3] (rows are vectors; zeros without a cell), pbc [3] bool,
    energy, forces [N, 3], stress [3, 3] (None where there is no label), weight in the loss, the kind of configuration
    it belongs to, by which errors are listed; the total charge; charges of the atoms [N], a label too, or what a model
    of given charges takes; dipole [3] about the origin.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(3, dtype=bool))
    energy: float | None = None
    forces: NDArray[np.float64] | None = None
    stress: NDArray[np.float64] | None = None
    weight: float = 1.0
    config_type: str = ""
    total_charge: float = 0.0
    charges: NDArray[np.float64] | None = None
    dipole: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def from_atoms(cls, atoms: Atoms, keys: LabelKeys | None = None, where: str = "the structure") -> Self:
        """Take over an ASE `Atoms`; labels are read under `keys`, or not at all if that is None.

        `atoms.info["config_type"]`, `atoms.info["weight"]` and the total charge are taken over too, and, since some
        models take them, charges of atoms, with their usual names where `keys` is None. Raises DataError, naming
        `where`, for a label, weight or charge that is not numeric or has the wrong shape.
        """
        weight = atoms.info.get("weight", 1.0)
        if np.asarray(weight).dtype.kind not in "iuf" or np.ndim(weight) != 0:
            raise DataError(f"{where}: the weight is {weight!r}; give one number per structure")
        return cls(
            numbers=np.array(atoms.numbers, dtype=np.int64),
            positions=np.array(atoms.positions, dtype=np.float64),
            cell=np.array(atoms.cell.array, dtype=np.float64),
            pbc=np.array(atoms.pbc, dtype=bool),
            weight=float(weight),
            config_type=str(atoms.info.get("config_type", "")),
            total_charge=read_total_charge(atoms, (keys or DEFAULT_KEYS).total_charge, where),
            **read_labels(atoms, keys or DEFAULT_KEYS, where, PROPERTIES if keys is not None else ("charges",)),
        )

    def to_atoms(self) -> Atoms:
        """The structure as ASE `Atoms`, labels in a `SinglePointCalculator`, so that `ase.io.write` keeps them."""
        atoms = Atoms(numbers=self.numbers, positions=self.positions, cell=self.cell, pbc=self.pbc)
        if self.config_type:
            atoms.info["config_type"] = self.config_type
        if self.weight != 1.0:
            atoms.info["weight"] = self.weight
        if self.total_charge:
            atoms.info["charge"] = self.total_charge
        labels: dict[str, Any] = {name: getattr(self, name) for name in PROPERTIES if name != "stress"}
        if self.stress is not None:
            labels["stress"] = full_3x3_to_voigt_6_stress(self.stress)
        present = {name: value for name, value in labels.items() if value is not None}
        if present:
            atoms.calc = SinglePointCalculator(atoms, **present)
        return atoms

    def validate(self, where: str) -> None:
        """Refuse what no model can learn from or be evaluated on.

        Raises StructureError for no atoms, an unknown atomic number, positions or a cell that are not finite, a
        periodic cell without volume, and atoms on one spot (periodic images included); DataError for a label
        of the wrong shape or that is not finite. Each message names `where`, which says the file and the frame.
        """
        count = len(self.numbers)
        if count == 0:
            raise StructureError(f"{where}: there are no atoms; remove the empty frame")
        unknown = np.flatnonzero((self.numbers < 1) | (self.numbers > _HEAVIEST_ELEMENT))
        if len(unknown):
            raise StructureError(
                f"{where}: atom {unknown[0]} has the atomic number {self.numbers[unknown[0]]}, which is no element; "
                f"correct its symbol (numbers 1 to {_HEAVIEST_ELEMENT} are known)"
            )
        check_geometry(self.positions, self.cell, self.pbc, where)
        if len(self.positions) != count:
            raise StructureError(f"{where}: {count} atomic numbers but {len(self.positions)} positions; mend the frame")
        self._check_contacts(where)
        self._check_labels(where)

    def _check_contacts(self, where: str) -> None:
        spacing = np.cbrt(abs(np.linalg.det(self.cell)) / len(self)) if self.pbc.all() else 0.0
        pairs = neighbour_list(self.positions, self.cell, self.pbc, float(np.clip(spacing, *_CONTACT_CUTOFFS)))
        vectors = self.positions[pairs.senders] - self.positions[pairs.receivers] + pairs.shifts @ self.cell
        distances = np.linalg.norm(vectors, axis=1)
        if not np.any(distances < COINCIDENCE_DISTANCE):
            return
        nearest = int(np.argmin(distances))
        first, second = sorted((int(pairs.senders[nearest]), int(pairs.receivers[nearest])))
        image = " (through the periodic boundary)" if pairs.shifts[nearest].any() else ""
        raise StructureError(
            f"{where}: atoms {first} and {second} are {distances[nearest]:.3g} Å apart{image}, less than "
            f"{COINCIDENCE_DISTANCE} Å; remove the doubled atom or correct its position"
        )

    def _check_labels(self, where: str) -> None:
        shapes = {
            "energy": (),
            "forces": (len(self), 3),
            "stress": (3, 3),
            "charges": (len(self),),
            "dipole": (3,),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is None:
                continue
            array = np.asarray(value)
            if array.shape != shape:
                raise DataError(f"{where}: {name} has shape {list(array.shape)} instead of {list(shape)}")
            wrong = np.argwhere(~np.isfinite(array))
            if len(wrong):
                atom = f" of atom {wrong[0][0]}" if name in PER_ATOM else ""
                raise DataError(
                    f"{where}: the {name} label{atom} is {array[tuple(wrong[0])]}; remove the frame, "
                    "or leave the label out where it is not known"
                )
        if not (np.isfinite(self.weight) and self.weight >= 0):
            raise DataError(f"{where}: the weight is {self.weight}; it has to be finite and not negative")
        if not np.isfinite(self.total_charge):
            raise DataError(f"{where}: the total charge is {self.total_charge}; it has to be finite")
