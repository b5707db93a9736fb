"""Long-range electrostatics: range separation, and the Chebyshev-Tucker format of a potential."""
