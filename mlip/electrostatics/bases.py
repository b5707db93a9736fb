"""Functions of one coordinate in which the long-range potential is expanded, differentiable any number of times."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mlip.electrostatics.chebyshev import chebyshev_values
from mlip.errors import StructureError


class Basis(Protocol):
    """Functions of a coordinate."""

    @property
    def degree(self) -> int:
        """Highest degree of a polynomial, or highest multiple of a phase."""
        ...

    @property
    def rank(self) -> int:
        """Number of functions."""
        ...

    def values(self, coordinates: Tensor) -> Tensor:
        """Their values, float64 [N, rank], at coordinates, float64 [N]."""
        ...


@dataclass(frozen=True)
class PeriodicBasis:
    """1, cos 2πs … cos 2π(count−1)s, sin 2πs … sin 2π(count−1)s of a fractional coordinate s."""

    count: int

    @property
    def degree(self) -> int:
        """Highest multiple of a phase."""
        return self.count - 1

    @property
    def rank(self) -> int:
        """Number of functions."""
        return 2 * self.count - 1

    def values(self, coordinates: Tensor) -> Tensor:
        """Values of all functions, float64 [N, rank]."""
        values: Tensor = _Harmonics.apply(coordinates, self.count)
        return values


class OpenBasis:
    """Combinations of Chebyshev polynomials of a coordinate in an interval.

    Attributes:
        projection: Coefficients of each function, float64 [polynomials, rank].
        centre: Middle of the interval, Å.
        half: Half its length, Å.
    """

    def __init__(self, projection: Tensor, centre: float, half: float) -> None:
        self.projection = projection
        self.centre = centre
        self.half = half

    @property
    def degree(self) -> int:
        """Highest degree of a polynomial."""
        return self.projection.shape[0] - 1

    @property
    def rank(self) -> int:
        """Number of functions."""
        return self.projection.shape[1]

    def values(self, coordinates: Tensor) -> Tensor:
        """Values of all functions, float64 [N, rank].

        Raises:
            StructureError: a coordinate lies outside of the interval, where polynomials explode.
        """
        reduced = (coordinates - self.centre) / self.half
        if bool((reduced.detach().abs() > 1.0).any()):
            raise StructureError(
                f"A coordinate lies outside of the box from {self.centre - self.half:g} to "
                f"{self.centre + self.half:g} Å: give points inside."
            )
        values: Tensor = _Polynomials.apply(reduced, self.projection)
        return values


class _Harmonics(torch.autograd.Function):
    """The derivative is made of the values themselves, so that no sine is computed twice."""

    @staticmethod
    def forward(ctx: Any, coordinates: Tensor, count: int) -> Tensor:
        orders = torch.arange(count, dtype=coordinates.dtype, device=coordinates.device)
        phases = (2 * math.pi * coordinates)[:, None] * orders
        values = torch.empty(len(coordinates), 2 * count - 1, dtype=coordinates.dtype, device=coordinates.device)
        torch.cos(phases, out=values[:, :count])
        torch.sin(phases[:, 1:], out=values[:, count:])
        ctx.save_for_backward(values, 2 * math.pi * orders[1:])
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, frequencies = ctx.saved_tensors
        count = len(frequencies) + 1
        turned = gradient[:, count:] * values[:, 1:count] - gradient[:, 1:count] * values[:, count:]
        return turned @ frequencies, None


class _Polynomials(torch.autograd.Function):
    """Chebyshev polynomials times a matrix, whose derivative is the same with another matrix."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, projection: Tensor) -> Tensor:
        ctx.save_for_backward(x, projection)
        return chebyshev_values(x, len(projection)) @ projection

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, projection = ctx.saved_tensors
        derivative = _Polynomials.apply(x, differentiated(projection))
        return (gradient * derivative).sum(1), None


def differentiated(coefficients: Tensor) -> Tensor:
    """Coefficients of the derivatives of Chebyshev series [polynomials, series], of the same shape.

    From T_n' = 2n (T_{n−1} + T_{n−3} + …), the last term halved where it is T_0.
    """
    count = len(coefficients)
    orders = torch.arange(count, dtype=coefficients.dtype, device=coefficients.device)
    lower, higher = orders[:, None], orders
    matrix = torch.where((higher > lower) & ((higher - lower) % 2 == 1), 2 * higher, torch.zeros_like(higher))
    matrix[0] /= 2
    return matrix @ coefficients
