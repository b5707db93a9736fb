"""Labels of a structure: which properties there are, under which names a file keeps them, and how they are found."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, Self, get_args

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from pydantic import BaseModel, ConfigDict

from mlip.errors import ConfigError, DataError

Property = Literal["energy", "forces", "stress"]
PROPERTIES: tuple[Property, ...] = get_args(Property)


class LabelKeys(BaseModel):
    """Names under which a file keeps the labels: in `atoms.info`, `atoms.arrays` or the results of ASE's calculator.

    Energies are read in eV, forces in eV/Å and stresses in eV/Å³ with ASE's sign.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    energy: str = "energy"
    forces: str = "forces"
    stress: str = "stress"

    def __getitem__(self, name: Property) -> str:
        """The key of a property."""
        return str(getattr(self, name))

    @classmethod
    def from_options(cls, options: Sequence[str]) -> Self:
        """Build from command-line options such as `energy=REF_energy`; raises ConfigError for anything else."""
        chosen = {}
        for option in options:
            name, _, key = option.partition("=")
            if name not in PROPERTIES or not key:
                nearest = get_close_matches(name, PROPERTIES, n=1) or ["energy"]
                raise ConfigError(
                    f"the key option '{option}' is not of the form PROPERTY=NAME with a property out of "
                    f"{', '.join(PROPERTIES)}; write for example {nearest[0]}={key or 'REF_' + nearest[0]}"
                )
            chosen[name] = key
        return cls(**chosen)


DEFAULT_KEYS = LabelKeys()


def read_labels(atoms: Atoms, keys: LabelKeys, where: str) -> dict[str, Any]:
    """Labels of one frame that are present, as `Structure` takes them.

    A value the file states itself (`info`, `arrays`) goes before one that ASE's reader moved into a calculator.
    Stress may come as [6] in Voigt order, [9] or [3, 3]. Raises DataError, naming `where`, for a label that is not
    numeric or whose shape does not fit.
    """
    labels: dict[str, Any] = {}
    for name in PROPERTIES:
        value = _find(atoms, name, keys[name])
        if value is None:
            continue
        try:
            labels[name] = _convert(name, value, len(atoms))
        except (TypeError, ValueError) as error:
            expected = {"energy": "one number", "forces": f"numbers of shape [{len(atoms)}, 3]"}.get(
                name, "numbers of shape [6], [9] or [3, 3]"
            )
            raise DataError(
                f"{where}: the {name} label '{keys[name]}' is {_describe(value)} instead of {expected}; "
                "mend the frame, or name another key"
            ) from error
    return labels


def _find(atoms: Atoms, name: Property, key: str) -> Any:
    stated = atoms.arrays if name == "forces" else atoms.info
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
    if name == "forces":
        if array.shape != (atom_count, 3):
            raise ValueError("wrong shape")
        return array
    return voigt_6_to_full_3x3_stress(array) if array.shape == (6,) else array.reshape(3, 3)


def _describe(value: Any) -> str:
    array = np.asarray(value)
    if array.ndim == 0:
        return repr(array.item())
    return f"an array of shape {list(array.shape)} and type {array.dtype}"


def candidate_keys(atoms: Atoms) -> dict[Property, list[str]]:
    """Names in a frame whose values have the shape of an energy, of forces or of a stress."""
    results: Mapping[str, Any] = atoms.calc.results if atoms.calc is not None else {}
    candidates: dict[Property, list[str]] = {name: [] for name in PROPERTIES}
    for key, value in {**results, **atoms.info, **atoms.arrays}.items():
        array = np.asarray(value)
        if array.dtype.kind not in "iuf" or key in ("positions", "numbers"):
            continue
        if array.ndim == 0:
            candidates["energy"].append(key)
        elif array.shape == (len(atoms), 3) and (key in atoms.arrays or key in results):
            candidates["forces"].append(key)
        elif array.shape in ((6,), (9,), (3, 3)):
            candidates["stress"].append(key)
    return candidates


def suggest_key(name: Property, key: str, candidates: Sequence[str]) -> str | None:
    """The candidate that most likely holds a property that is absent under `key`, such as `Energy` for `energy`."""
    stem = name.rstrip("s")
    named = [candidate for candidate in candidates if stem in candidate.lower() and candidate != key]
    nearest = get_close_matches(key, named, n=1, cutoff=0.0)
    return nearest[0] if nearest else None
