"""From the tolerance to the parameters of the range separation."""

import math
from dataclasses import dataclass

import torch

from mlip.electrostatics.boxes import Interval
from mlip.electrostatics.frame import Frame
from mlip.electrostatics.nodes import mixed_gaussian_sum
from mlip.electrostatics.open_axis import OpenAxis, Plane, open_axis, polynomial_count
from mlip.electrostatics.quadrature import gaussian_sum
from mlip_kernels.coulomb_pairs import Screening

# Errors of the parts, of the tolerance, as measured for random charges: the sums over pairs and over wave vectors that
# end, whose terms have random signs, and what the bases of open directions leave out.
_CUT_PAIRS = 1.3
_CUT_WAVES = 3.0
_POLYNOMIALS = 0.3
# By the number of periodic directions.
_GAUSSIANS = (0.3, 0.1, 0.1)
_RANKS = (0.1, 0.03, 0.03)
# Of the end of the short-range part, Å.
_WIDTH = 0.12
# Sums of Gaussians are not better than this in float64.
_LEAST = 2e-14
# Bases and exponents must not follow a cell that moves: they are made for sizes from a coarse scale.
_SIZES_PER_DOUBLING = 4


@dataclass(frozen=True)
class Separation:
    """The range separation of a solver.

    Attributes:
        alpha: α, 1/Å.
        cutoff: Where the short-range sum ends, Å.
        tolerance: Relative error of forces.
    """

    alpha: float
    cutoff: float
    tolerance: float

    @property
    def screening(self) -> Screening:
        """The short-range part as a function of distance."""
        return Screening(self.alpha, self.cutoff, _WIDTH)

    @property
    def highest_wave_number(self) -> float:
        """k beyond which exp(−k²/4α²) is below the tolerance, 1/Å."""
        return 2 * self.alpha * math.sqrt(math.log(1 / (_CUT_WAVES * self.tolerance)))

    def harmonics(self, frame: Frame) -> tuple[int, ...]:
        """Number of cosines along each periodic direction."""
        highest = self.highest_wave_number / (2 * math.pi)
        return tuple(math.ceil(highest * length) + 1 for length in frame.lengths)

    def polynomials(self, length: float) -> int:
        """Number of Chebyshev polynomials along an open direction of a length in Å."""
        return polynomial_count(self.alpha, length, _POLYNOMIALS * self.tolerance)


def separation(tolerance: float, cutoff: float) -> Separation:
    """The range separation with exp(−(α · cutoff)²) at what the tolerance allows."""
    return Separation(math.sqrt(math.log(1 / (_CUT_PAIRS * tolerance))) / cutoff, cutoff, tolerance)


def rounded_down(size: float) -> float:
    """A size from a coarse scale, the next below."""
    return 2.0 ** (math.floor(math.log2(size) * _SIZES_PER_DOUBLING) / _SIZES_PER_DOUBLING)


def gaussian_nodes(
    separation: Separation, frame: Frame, intervals: list[Interval]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Exponents and weights of the sum of Gaussians in a box, float64 [nodes]."""
    tolerance = max(_GAUSSIANS[frame.periodic] * separation.tolerance, _LEAST)
    radius = math.sqrt(sum(interval.length**2 for interval in intervals))
    if frame.periodic == 0:
        return gaussian_sum(separation.alpha, radius, tolerance)
    smallest = rounded_down(frame.reciprocal.detach().norm(dim=1).min().item())
    highest = max(separation.highest_wave_number, 2 * smallest)
    # Most are among the lowest, which in a long cell lie close together and matter most.
    squares = torch.logspace(math.log10(smallest), math.log10(highest), 24, dtype=torch.float64) ** 2
    exponents, weights = mixed_gaussian_sum(separation.alpha, radius, squares.numpy(), frame.periodic, tolerance)
    return torch.from_numpy(exponents), torch.from_numpy(weights)


def open_axes(
    separation: Separation, frame: Frame, intervals: list[Interval], exponents: torch.Tensor, weights: torch.Tensor
) -> list[OpenAxis]:
    """Bases of the open directions."""
    measure = rounded_down(float(frame.measure.detach()))
    amplitudes = weights
    if frame.periodic == 1:
        # Summed over images, a wide Gaussian is that much higher. In slabs that is all in the mode k = 0.
        amplitudes = weights * (math.sqrt(math.pi) / (exponents * measure)).clamp(min=1.0)
    amplitudes = amplitudes ** (1 / len(intervals))
    plane = Plane(separation.alpha, measure) if frame.periodic == 2 else None
    shared: dict[float, OpenAxis] = {}
    for interval in intervals:
        if interval.length not in shared:
            count = separation.polynomials(interval.length)
            shared[interval.length] = open_axis(
                interval.length, count, exponents, amplitudes, _RANKS[frame.periodic] * separation.tolerance, plane
            )
    return [shared[interval.length] for interval in intervals]
