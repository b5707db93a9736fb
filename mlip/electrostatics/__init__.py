"""Long-range electrostatics: range separation, and the Chebyshev-Tucker format of a potential."""

from mlip.electrostatics.result import CoulombResult
from mlip.electrostatics.solver import CoulombSolver

__all__ = ["CoulombResult", "CoulombSolver"]
