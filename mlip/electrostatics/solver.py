"""The solver of electrostatics: energies, forces, potentials of point charges, open and periodic."""

import math
from typing import Any, Literal

from torch import Tensor

from mlip.electrostatics.constants import COULOMB_CONSTANT
from mlip.electrostatics.direct import DirectField, direct_potentials
from mlip.electrostatics.inputs import ChargedStructures, check_distances, read_inputs
from mlip.electrostatics.plan import Plan
from mlip.electrostatics.result import CoulombResult
from mlip.errors import ConfigError, StructureError

_METHODS = ("auto", "direct", "ewald", "chebyshev_tucker")


class CoulombSolver:
    """Coulomb energies of point charges, for any mix of open and periodic directions and any cell."""

    def __init__(
        self,
        tolerance: float = 1e-6,
        cutoff: float | None = 6.0,
        method: Literal["auto", "direct", "ewald", "chebyshev_tucker"] = "auto",
    ) -> None:
        if not 1e-14 < tolerance < 1e-1:
            raise ConfigError(f"The tolerance is {tolerance}: take one between 1e-14 and 0.1.")
        if cutoff is not None and not (math.isfinite(cutoff) and cutoff > 0):
            raise ConfigError(f"The cutoff is {cutoff}: give a length in Å, or None to have it chosen.")
        if method not in _METHODS:
            raise ConfigError(f"There is no method '{method}': take one of {', '.join(_METHODS)}.")
        self.tolerance = tolerance
        self.cutoff = cutoff
        self.method = method
        self._last: list[DirectField] = []

    def __call__(
        self,
        positions: Tensor,
        charges: Tensor,
        cell: Any = None,
        pbc: Any = None,
        batch: Tensor | None = None,
        excluded_pairs: Tensor | None = None,
    ) -> CoulombResult:
        structures = read_inputs(positions, charges, cell, pbc, batch, excluded_pairs)
        check_distances(structures)
        if any(any(periodic) for periodic in structures.pbc):
            raise StructureError("Periodic structures are not available yet: give open ones.")
        potentials = direct_potentials(structures) - excluded_potentials(structures)
        energies = structures.sum(structures.charges * potentials) / 2
        plans = tuple(
            Plan(
                "direct", "open", pbc, end - begin, None, None, (0, 0, 0), (0, 0, 0), 0, 1e-15, 0,
                20.0 * (end - begin) ** 2, 1e-9 * (end - begin) ** 2,
            )
            for pbc, begin, end in zip(structures.pbc, structures.bounds[:-1], structures.bounds[1:], strict=True)
        )  # fmt: skip
        return CoulombResult(
            structures.shaped(energies) * 0, structures.shaped(energies), plans, lambda: structures.shaped(potentials)
        )


def excluded_potentials(structures: ChargedStructures) -> Tensor:
    """What each charge would see of those that it does not see, V [N, channels]."""
    first, second = structures.excluded_pairs.unbind(1)
    inverse = (structures.positions[first] - structures.positions[second]).square().sum(1).rsqrt()[:, None]
    charges = structures.charges
    result = charges.new_zeros(charges.shape)
    result = result.index_add(0, first, inverse * charges[second]).index_add(0, second, inverse * charges[first])
    return COULOMB_CONSTANT * result
