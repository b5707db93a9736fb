"""Irreps of any parity and number on products that know degrees only.

A grid, a Fourier series, a spin matrix or a CP fit multiplies two signals that hold each degree once and know nothing
of parity. Entries of one degree are therefore superposed, which the sum over paths allows. Where degrees alone would
let through a coupling that inversion forbids, the even and the odd part of each operand are kept apart: with u± =
u_even ± u_odd the product u v has the parts (u+ v+ ± u− v−)/2, so that two products do, not four.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlip.tensor_products.spec import ProductSpec


@dataclass(frozen=True)
class Sectors:
    """Signs with which the components of each operand enter each of S signals; S is 1 or 2.

    Attributes:
        in1: float64 [S, dims[0]].
        in2: float64 [S, dims[1]].
        out: float64 [S, dims[2]], divided by S: the result is the sum over signals.
    """

    in1: NDArray[np.float64]
    in2: NDArray[np.float64]
    out: NDArray[np.float64]

    def lift(self, operand: int, table: NDArray[np.float64], spec: ProductSpec) -> NDArray[np.float64]:
        """Extend a table on degrees 0 … L, [points, (L+1)²], to the entries of an operand of the spec.

        Args:
            operand: 0, 1 or 2 for in1, in2 or out.
            table: Values, complex ones too, for the components l² … (l+1)² − 1 of each degree l.
            spec: The spec that the sectors were made for.

        Returns:
            [S, points, dims[operand]].
        """
        signs = (self.in1, self.in2, self.out)[operand]
        return signs[:, None, :] * table[None][:, :, components(spec, operand)]


def sectors(spec: ProductSpec, degrees_couple: Callable[[int, int, int], bool]) -> Sectors:
    """Signs for a product of signals that couples every triple of degrees for which `degrees_couple` holds.

    Triples that break the triangle inequality never couple and need not be asked about.
    """

    def leaks() -> bool:
        return any(
            out.p != first.p * second.p and degrees_couple(first.l, second.l, out.l)
            for first in set(spec.irreps_in1)
            for second in set(spec.irreps_in2)
            for out in set(spec.irreps_out)
            if abs(first.l - second.l) <= out.l <= first.l + second.l
        )

    parities = [np.array([float(irrep.p) for irrep in irreps for _ in range(irrep.dim)]) for irreps in spec.operands]
    signs = [np.ones((1, len(each))) for each in parities]
    if leaks():
        signs = [np.stack([np.ones_like(each), each]) for each in parities]
    return Sectors(signs[0], signs[1], signs[2] / len(signs[2]))


def components(spec: ProductSpec, operand: int) -> NDArray[np.int64]:
    """Place l² + l + m of every component of an operand among those of degrees 0 … L, int64 [dims[operand]]."""
    return np.concatenate([np.arange(irrep.l**2, (irrep.l + 1) ** 2) for irrep in spec.operands[operand]])
