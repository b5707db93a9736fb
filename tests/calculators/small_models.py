"""The small models of these tests: few, since each is compiled once for every number type."""

from typing import Any

_COMMON: dict[str, Any] = {
    "elements": ["H", "C", "O"],
    "hidden_irreps": "16x0e+16x1o",
    "l_max": 2,
    "layers": 2,
    "cutoff": 4.0,
    "seed": 1,
    "reference_energies": {"H": -13.6, "C": -1030.0, "O": -2040.0},
}
MACE = {**_COMMON, "architecture": "mace", "correlation": 2}
NEQUIP = {**_COMMON, "architecture": "nequip"}
CONFIGS = {"mace": MACE, "nequip": NEQUIP}
