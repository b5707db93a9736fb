"""Long-range electrostatics: range separation, and the Chebyshev-Tucker format of a potential."""

from mlip.electrostatics.format import ChebyshevTucker
from mlip.electrostatics.plan import Plan
from mlip.electrostatics.result import CoulombResult
from mlip.electrostatics.solver import CoulombSolver

__all__ = ["ChebyshevTucker", "CoulombResult", "CoulombSolver", "Plan"]
