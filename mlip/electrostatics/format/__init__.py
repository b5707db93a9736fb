"""The Chebyshev-Tucker format of a potential: Chebyshev polynomials along each axis, compressed by a Tucker tensor."""

from mlip.electrostatics.format.chebyshev_tucker import ChebyshevTucker

__all__ = ["ChebyshevTucker"]
