"""How a structure is computed: method, parameters, predicted cost."""

from dataclasses import dataclass
from typing import Literal

from mlip.electrostatics.inputs import Periodicity

Method = Literal["direct", "ewald", "chebyshev_tucker"]


@dataclass(frozen=True)
class Plan:
    """The way a structure is computed, and what it is predicted to take.

    Attributes:
        method: `direct`, `ewald` or `chebyshev_tucker`.
        reason: Why this one, in words.
        pbc: Which directions are periodic.
        charges: Their number.
        cutoff: Of the short-range sum, Å; None without range separation.
        alpha: Range separation α, 1/Å; None without.
        degrees: Per direction: Chebyshev polynomials of an open one, highest multiple of the reciprocal vector of a
            periodic one; zeros for `direct`.
        ranks: Functions in the basis of each direction.
        nodes: Gaussians of the long-range kernel; 0 where it is diagonal.
        predicted_error: Of forces, relative (root mean square).
        memory_bytes: Largest amount held at a time, estimated.
        flops: Of an energy with forces, estimated.
        seconds: Of an energy with forces on one thread, float64, estimated.
    """

    method: Method
    reason: str
    pbc: Periodicity
    charges: int
    cutoff: float | None
    alpha: float | None
    degrees: tuple[int, int, int]
    ranks: tuple[int, int, int]
    nodes: int
    predicted_error: float
    memory_bytes: int
    flops: float
    seconds: float
