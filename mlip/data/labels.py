"""Labels of a structure: which properties there are, under which names a file keeps them, and how they are found."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, Self, get_args

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from pydantic import BaseModel, ConfigDict

from mlip.errors import ConfigError, DataError

Property = Literal["energy", "forces", "stress", "charges", "dipole"]
PROPERTIES: tuple[Property, ...] = get_args(Property)
PER_ATOM: tuple[Property, ...] = ("forces", "charges")


class LabelKeys(BaseModel):
    """Names under which a file keeps the labels: in `atoms.info`, `atoms.arrays` or the results of ASE's calculator.

    Energies are read in eV, forces in eV/Å, stresses in eV/Å³ with ASE's sign, charges of atoms in e, dipoles in e Å.
    The total charge of a structure, in e, is no label: models take it as it is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    energy: str = "energy"
    forces: str = "forces"
    stress: str = "stress"
    charges: str = "charges"
    dipole: str = "dipole"
    total_charge: str = "charge"

    def __getitem__(self, name: Property) -> str:
        """The key of a property."""
        return str(getattr(self, name))

    @classmethod
    def from_options(cls, options: Sequence[str]) -> Self:
        """Build from command-line options such as `energy=REF_energy`; raises ConfigError for anything else."""
        chosen = {}
        for option in options:
            name, _, key = option.partition("=")
            if name not in cls.model_fields or not key:
                nearest = get_close_matches(name, cls.model_fields, n=1) or ["energy"]
                raise ConfigError(
                    f"the key option '{option}' is not of the form PROPERTY=NAME with a property out of "
                    f"{', '.join(cls.model_fields)}; write for example {nearest[0]}={key or 'REF_' + nearest[0]}"
                )
            chosen[name] = key
        return cls(**chosen)


DEFAULT_KEYS = LabelKeys()
_EXPECTED = {
    "energy": "one number",
    "forces": "numbers of shape [{atoms}, 3]",
    "stress": "numbers of shape [6], [9] or [3, 3]",
    "charges": "numbers of shape [{atoms}]",
    "dipole": "numbers of shape [3]",
}


def read_total_charge(atoms: Atoms, key: str, where: str) -> float:
    """Total charge of one frame, e, from `atoms.info`; zero where there is none. Raises DataError for no number."""
    charge = atoms.info.get(key, 0.0)
    if np.asarray(charge).dtype.kind not in "iuf" or np.ndim(charge) != 0:
        raise DataError(f"{where}: the total charge '{key}' is {charge!r}; give one number per structure, in e")
    return float(charge)


def read_labels(
    atoms: Atoms, keys: LabelKeys, where: str, properties: Sequence[Property] = PROPERTIES
) -> dict[str, Any]:
    """Labels of one frame that are present, as `Structure` takes them.

    A value the file states itself (`info`, `arrays`) goes before one that ASE's reader moved into a calculator.
    Stress may come as [6] in Voigt order, [9] or [3, 3]. The dipole of a periodic structure depends on where the cell
    is cut and is passed over. Raises DataError, naming `where`, for a label that is not numeric or whose shape does not
    fit.
    """
    labels: dict[str, Any] = {}
    for name in properties:
        if name == "dipole" and atoms.pbc.any():
            continue
        value = _find(atoms, name, keys[name])
        if value is None:
            continue
        try:
            labels[name] = _convert(name, value, len(atoms))
        except (TypeError, ValueError) as error:
            expected = _EXPECTED[name].format(atoms=len(atoms))
            raise DataError(
                f"{where}: the {name} label '{keys[name]}' is {_describe(value)} instead of {expected}; "
                "mend the frame, or name another key"
            ) from error
    return labels


def _find(atoms: Atoms, name: Property, key: str) -> Any:
    stated = atoms.arrays if name in PER_ATOM else atoms.info
    if stated.get(key) is not None:
        return stated[key]
    return atoms.calc.results.get(key) if atoms.calc is not None else None


def _convert(name: Property, value: Any, atom_count: int) -> Any:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":  # booleans and strings are no labels, though numpy would convert them
        raise TypeError(f"{array.dtype} is not numeric")
    array = array.astype(np.float64)
    if name == "energy":
        return float(array.reshape(()))
    shapes = {"forces": (atom_count, 3), "charges": (atom_count,), "dipole": (3,)}
    if name in shapes:
        if array.shape != shapes[name]:
            raise ValueError("wrong shape")
        return array
    return voigt_6_to_full_3x3_stress(array) if array.shape == (6,) else array.reshape(3, 3)


def _describe(value: Any) -> str:
    array = np.asarray(value)
    if array.ndim == 0:
        return repr(array.item())
    return f"an array of shape {list(array.shape)} and type {array.dtype}"


def candidate_keys(atoms: Atoms) -> dict[Property, list[str]]:
    """Names in a frame whose values have the shape of each property."""
    results: Mapping[str, Any] = atoms.calc.results if atoms.calc is not None else {}
    candidates: dict[Property, list[str]] = {name: [] for name in PROPERTIES}
    for key, value in {**results, **atoms.info, **atoms.arrays}.items():
        array = np.asarray(value)
        if array.dtype.kind not in "iuf" or key in ("positions", "numbers"):
            continue
        if array.ndim == 0:
            candidates["energy"].append(key)
            continue
        per_atom = key in atoms.arrays or key in results
        if array.shape == (len(atoms), 3) and per_atom:
            candidates["forces"].append(key)
        elif array.shape == (len(atoms),) and (key in atoms.arrays or key == "charges"):
            candidates["charges"].append(key)
        elif array.shape == (3,):
            candidates["dipole"].append(key)
        elif array.shape in ((6,), (9,), (3, 3)):
            candidates["stress"].append(key)
    return candidates


def suggest_key(name: Property, key: str, candidates: Sequence[str]) -> str | None:
    """The candidate that most likely holds a property that is absent under `key`, such as `Energy` for `energy`."""
    stem = name.rstrip("s")
    named = [candidate for candidate in candidates if stem in candidate.lower() and candidate != key]
    nearest = get_close_matches(key, named, n=1, cutoff=0.0)
    return nearest[0] if nearest else None
