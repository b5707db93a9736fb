"""Which function a product computes: the coefficients of its paths, whatever the backend that computes it."""

import difflib
from collections.abc import Iterable
from typing import Literal, get_args

import numpy as np

from mlip.errors import ConfigError
from mlip.so3 import bracket, gaunt, matrix_coupling, wigner_3j

Coupling = Literal["clebsch_gordan", "gaunt", "bracket", "gaunt+bracket", "matrix"]
COUPLINGS: tuple[Coupling, ...] = get_args(Coupling)
# Couplings of spin matrices vanish at a few isolated triples of degrees; rounding leaves 1e-17 there.
_ZERO = 1e-12


def coupling_tensor(coupling: Coupling, l1: int, l2: int, l3: int, spin: int) -> np.ndarray:
    """Coefficients `[2 l1 + 1, 2 l2 + 1, 2 l3 + 1]` of one path, float64 and read-only, without any weight.

    Args:
        coupling: `clebsch_gordan` (the Wigner 3j tensor), `gaunt` (∫ Y1 Y2 Y3), `bracket` (∫ r̂·(∇Y1 × ∇Y2) Y3),
            `gaunt+bracket` (their sum), or `matrix` (the product of spin matrices).
        l1, l2, l3: Degrees that satisfy the triangle inequality.
        spin: For `matrix`: matrices are (2 spin + 1) × (2 spin + 1) and hold degrees up to 2 spin.
    """
    if coupling == "clebsch_gordan":
        return wigner_3j(l1, l2, l3)
    if coupling == "matrix":
        return matrix_coupling(l1, l2, l3, spin)
    odd = (l1 + l2 + l3) % 2 == 1
    if coupling == "gaunt" or (coupling == "gaunt+bracket" and not odd):
        return gaunt(l1, l2, l3)
    return bracket(l1, l2, l3)


def couples(coupling: Coupling, l1: int, l2: int, l3: int, spin: int) -> bool:
    """Whether the coupling has a path from degrees l1 and l2 to l3."""
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        return False
    return bool(np.abs(coupling_tensor(coupling, l1, l2, l3, spin)).max() > _ZERO)


def choose(kind: str, name: object, known: Iterable[str]) -> None:
    """Refuse a name that is not among the known ones.

    Raises:
        ConfigError: suggesting the nearest.
    """
    known = list(known)
    if name not in known:
        nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
        remedy = f"did you mean '{nearest[0]}'?" if nearest else f"choose one of {', '.join(known)}."
        raise ConfigError(f"unknown {kind} '{name}': {remedy}")
