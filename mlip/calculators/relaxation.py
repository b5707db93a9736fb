"""Relaxing a structure to the nearest minimum of its energy through ASE."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE, LBFGS

from mlip.errors import ConfigError

OptimizerName = Literal["fire", "lbfgs", "bfgs"]
_OPTIMIZERS = {"fire": FIRE, "lbfgs": LBFGS, "bfgs": BFGS}


@dataclass(frozen=True)
class Progress:
    """Where a relaxation is: steps taken, eV, and the largest force on an atom (or a cell vector) in eV/Å."""

    steps: int
    energy: float
    largest_force: float
    converged: bool


def relax_structure(
    atoms: Atoms,
    *,
    optimizer: OptimizerName = "fire",
    fmax: float = 0.01,
    steps: int = 500,
    cell: bool = False,
    observe: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Move `atoms`, which carry their calculator, downhill until no force exceeds `fmax` (eV/Å) or `steps` are taken.

    With `cell` the cell follows the stress. `observe` is called at the start and after each step.

    Raises:
        ConfigError: `cell` for a structure that is not periodic in all three directions.
    """
    if cell and not atoms.pbc.all():
        raise ConfigError(
            f"the cell of a structure with pbc={atoms.pbc.tolist()} cannot be relaxed; leave the cell out."
        )
    target = FrechetCellFilter(atoms) if cell else atoms
    with _OPTIMIZERS[optimizer](target, logfile=None) as run:
        for converged in run.irun(fmax=fmax, steps=steps):
            force = float(np.linalg.norm(target.get_forces(), axis=1).max())
            state = Progress(run.nsteps, float(atoms.get_potential_energy()), force, bool(converged))
            observe(state)
    return state
