"""The calculators of torch-pme, with the parameters that make each quickest at a wanted error.

torch-pme: https://github.com/lab-cosmo/torch-pme, installed by `pip install torch-pme`.
"""

import importlib.util
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from vesin import NeighborList

from mlip.benchmarks.electrostatics_systems import (
    ChargedBox,
    EnergyForces,
    charged_box,
    force_error,
    reference,
)
from mlip.electrostatics.constants import COULOMB_CONSTANT
from mlip.errors import ConfigError

METHODS = ("ewald", "pme", "p3m")
_NODES = {"ewald": (0,), "pme": (4, 5, 6, 7), "p3m": (3, 4, 5)}  # of interpolation
_POWERS = tuple(2**power for power in range(3, 10))
_MESHES = {"ewald": tuple(range(5, 200, 2)), "pme": _POWERS, "p3m": _POWERS}
_CUTOFFS = (3.0, 16.0)  # Å, from where to where cutoffs are looked for
# exp(−(α · cutoff)²) in tolerances, at which forces of random charges lose half a tolerance.
_CUT_SUM = 2.0
# The small box in which the sharpest range separation is looked for.
_PILOT_CHARGES = 300
_PILOT_MESH = {"ewald": 21, "pme": 64, "p3m": 64}
_PILOT_STEPS = 6
_MOST_REACH = 0.8
_REPAIRS, _SOFTER = 5, 0.95
_SECONDS_PER_TERM = 2e-8
_PREDICTION_MARGIN = 2.0
_BYTES_PER_TERM = 48
_BYTES_PER_MESH_POINT = 64
_GIB = 2**30


class Pairs(NamedTuple):
    """A half list: indices [pairs, 2], and the offsets of the second of each pair, Å [pairs, 3]."""

    indices: Tensor
    offsets: Tensor


@dataclass(frozen=True)
class Parameters:
    """Of a calculation.

    Attributes:
        method: `ewald`, `pme` or `p3m`.
        mesh: Points, or wave vectors, along each side of the cube.
        nodes: Of the interpolation; 0 for `ewald`.
        alpha: Range separation, 1/Å.
        cutoff: Of the sum over pairs, Å.
    """

    method: str
    mesh: int
    nodes: int
    alpha: float
    cutoff: float

    def __str__(self) -> str:
        nodes = f", {self.nodes} nodes" if self.nodes else ""
        return f"cutoff {self.cutoff:.1f} Å, {self.mesh}³ {'points' if self.nodes else 'waves'}{nodes}"


@dataclass(frozen=True)
class TorchPME:
    """A calculation of a periodic box."""

    box: ChargedBox
    parameters: Parameters
    calculator: Callable[..., Tensor]

    @classmethod
    def of(cls, box: ChargedBox, parameters: Parameters) -> "TorchPME":
        """Make the calculator."""
        return cls(box, parameters, _calculator(_side(box), parameters))

    def pairs(self, positions: Tensor) -> Pairs:
        """All pairs nearer than the cutoff."""
        cell = _cell(self.box)
        search = NeighborList(cutoff=self.parameters.cutoff, full_list=False)
        first, second, shifts = search.compute(positions.detach().numpy(), cell.numpy(), True, "ijS")
        indices = torch.from_numpy(np.stack([first, second], axis=1).astype(np.int64))
        return Pairs(indices, torch.from_numpy(shifts.astype(np.float64)) @ cell)

    def solve(self, positions: Tensor, pairs: Pairs) -> EnergyForces:
        """Energy and forces."""
        places, charges = positions.detach().requires_grad_(), self.box.charges[:, None]
        first, second = pairs.indices.unbind(1)
        vectors = places.index_select(0, second) - places.index_select(0, first) + pairs.offsets
        potentials = self.calculator(charges, _cell(self.box), places, pairs.indices, vectors.norm(dim=1))
        energy = COULOMB_CONSTANT * (charges * potentials).sum()
        (gradient,) = torch.autograd.grad(energy, places)
        return EnergyForces(energy.item(), -gradient)


def installed() -> bool:
    """Whether torch-pme can be imported."""
    return importlib.util.find_spec("torchpme") is not None


class Tuner:
    """Finds the quickest calculation whose forces are within a tolerance.

    For every mesh and number of nodes the range separation is as sharp as the mesh allows, and the cutoff follows. How
    sharp that is, is found in a small box, and made softer where it does not suffice. Each calculation is run then.
    """

    def __init__(self, call_limit: float, memory: float) -> None:
        """
        Args:
            call_limit: Seconds; what would take longer is not tried.
            memory: Bytes; the same.
        """
        self._call_limit = call_limit
        self._memory = memory
        self._pilot = charged_box("periodic", _PILOT_CHARGES)
        self._truth = reference(self._pilot, memory).found
        self._reaches: dict[tuple[str, int, float], float] = {}

    def tune(self, method: str, box: ChargedBox, truth: EnergyForces, tolerance: float) -> TorchPME:
        """The quickest calculation.

        Args:
            method: `ewald`, `pme` or `p3m`.
            box: Periodic.
            truth: Its energy and forces.
            tolerance: Relative error of forces.

        Raises:
            ConfigError: nothing is within tolerance and limits.
        """
        best, best_seconds = None, self._call_limit
        tried = sorted(self._candidates(method, box, tolerance), key=lambda each: _predicted(box, each))
        for parameters in tried:
            # Predictions are rough.
            if _predicted(box, parameters) > _PREDICTION_MARGIN * best_seconds:
                break
            found = _within(box, parameters, truth, tolerance, 1.5 * best_seconds)
            if found is not None:
                seconds = _timed(found)[0]
                if seconds < best_seconds:
                    best, best_seconds = found, seconds
        if best is None:
            raise ConfigError(
                f"nothing reaches {tolerance:g} within {self._call_limit:g} s a call and {self._memory / _GIB:.3g} GiB."
            )
        return best

    def _candidates(self, method: str, box: ChargedBox, tolerance: float) -> Iterator[Parameters]:
        """For each mesh, and number of nodes, the sharpest range separation that it allows."""
        count = len(box.charges)
        for nodes in _NODES[method]:
            reach, last = self._reach(method, nodes, tolerance), math.inf
            for mesh in _MESHES[method] if reach else ():
                alpha = reach * mesh / _side(box)
                cutoff = _sharpness(tolerance) / alpha
                terms = nodes**3 if nodes else mesh**3
                needed = _BYTES_PER_TERM * terms * count + (_BYTES_PER_MESH_POINT * mesh**3 if nodes else 0)
                # Odd meshes of Ewald's sum are many: steps of a twelfth of the cutoff are fine enough.
                if _CUTOFFS[0] <= cutoff <= min(_CUTOFFS[1], last / 1.08) and needed <= self._memory:
                    last = cutoff
                    yield Parameters(method, mesh, nodes, alpha, cutoff)

    def _reach(self, method: str, nodes: int, tolerance: float) -> float:
        """Largest range separation, in inverse spacings of the mesh, that keeps the tolerance; 0 if none does."""
        key = (method, nodes, tolerance)
        if key not in self._reaches:
            self._reaches[key] = self._found_reach(*key)
        return self._reaches[key]

    def _found_reach(self, method: str, nodes: int, tolerance: float) -> float:
        mesh = _PILOT_MESH[method]

        def suffices(reach: float) -> bool:
            alpha = reach * mesh / _side(self._pilot)
            parameters = Parameters(method, mesh, nodes, alpha, _sharpness(tolerance) / alpha)
            return force_error(_timed(TorchPME.of(self._pilot, parameters))[1], self._truth) <= tolerance

        low, high = _sharpness(tolerance) / _CUTOFFS[1] * _side(self._pilot) / mesh, _MOST_REACH
        if not suffices(low):
            return 0.0
        for _ in range(_PILOT_STEPS):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if suffices(middle) else (low, middle)
        return low


def tight_ewald(box: ChargedBox, tolerance: float = 1e-15) -> EnergyForces:
    """Ewald's sum of a small box, converged to rounding: a check of the reference."""
    sharpness = math.sqrt(math.log(1 / tolerance))
    alpha = sharpness / 9.0
    mesh = 2 * math.ceil(1.1 * sharpness * alpha * _side(box) / math.pi) + 1
    calculation = TorchPME.of(box, Parameters("ewald", mesh, 0, alpha, 9.0))
    return calculation.solve(box.positions, calculation.pairs(box.positions))


def _within(
    box: ChargedBox, parameters: Parameters, truth: EnergyForces, tolerance: float, limit: float
) -> TorchPME | None:
    """A calculation within the tolerance, its range separation softer if need be; None if it takes too long."""
    for _ in range(_REPAIRS):
        calculation = TorchPME.of(box, parameters)
        seconds, found = _timed(calculation)
        if force_error(found, truth) <= tolerance:
            return calculation
        if seconds > limit:
            return None
        alpha = _SOFTER * parameters.alpha
        parameters = replace(parameters, alpha=alpha, cutoff=_sharpness(tolerance) / alpha)
    return None


def _predicted(box: ChargedBox, parameters: Parameters) -> float:
    """Seconds, roughly: for the order in which to try."""
    count = len(box.charges)
    pairs = count**2 / box.volume * 2 / 3 * math.pi * parameters.cutoff**3
    terms = count * (4 * parameters.nodes**3 if parameters.nodes else 6 * parameters.mesh**3)
    mesh = 20 * parameters.mesh**3 if parameters.nodes else 0
    return _SECONDS_PER_TERM * (5 * pairs + terms + mesh)


def _sharpness(tolerance: float) -> float:
    """α times the cutoff at which what is cut off the sum over pairs is about half of the tolerance."""
    return math.sqrt(math.log(1 / (_CUT_SUM * tolerance)))


def _timed(calculation: TorchPME) -> tuple[float, EnergyForces]:
    """Seconds of a call, its pair list given."""
    pairs = calculation.pairs(calculation.box.positions)
    start = time.perf_counter()
    found = calculation.solve(calculation.box.positions, pairs)
    return time.perf_counter() - start, found


def _calculator(side: float, parameters: Parameters) -> Any:
    import torchpme

    potential = torchpme.CoulombPotential(smearing=1 / (math.sqrt(2) * parameters.alpha))
    if parameters.method == "ewald":
        # So many wave vectors along a side are the next integer from side / wavelength.
        made = torchpme.EwaldCalculator(potential, lr_wavelength=side / (parameters.mesh - 0.5))
    else:
        # The mesh gets the next power of two from 2 side / spacing + 1 points along a side.
        kind = torchpme.PMECalculator if parameters.method == "pme" else torchpme.P3MCalculator
        spacing = 2.0001 * side / (parameters.mesh - 1)
        made = kind(potential, mesh_spacing=spacing, interpolation_nodes=parameters.nodes)
    return made.to(torch.float64)


def _cell(box: ChargedBox) -> Tensor:
    assert box.cell is not None
    return box.cell


def _side(box: ChargedBox) -> float:
    return float(_cell(box)[0, 0])
