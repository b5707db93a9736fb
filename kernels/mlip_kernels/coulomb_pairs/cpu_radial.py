"""Emits the radial functions of the pair sums."""

import math
from dataclasses import dataclass

from mlip_kernels.coulomb_pairs.cpu_erfc import erfc
from mlip_kernels.coulomb_pairs.cpu_vectors import inverse_root, least, magnitude, select, where_negative
from mlip_kernels.simd.code import Reals, Vector

# Here erfc is nothing beside 1. Farther on its numbers would become so small that processors take long over them.
_SETTLED = 6.5


@dataclass(frozen=True)
class Radial:
    """The radial functions of `reference`, f with the opposite sign.

    Attributes:
        u: The potential of a unit charge.
        minus_f: -u' / r.
        h: f' / r.
    """

    u: Vector
    minus_f: Vector
    h: Vector


def screening_factors(alpha: float, cutoff: float, width: float) -> list[float]:
    """What programs take of a `Screening`: the numbers of `ScreeningFactors`."""
    return [
        alpha,
        2 * alpha / math.sqrt(math.pi),
        2 * alpha**2,
        1 / width,
        -cutoff / width,
        1 / (math.sqrt(math.pi) * width),
    ]


@dataclass(frozen=True)
class ScreeningFactors:
    """Numbers of a screening.

    Attributes:
        alpha: The inverse length.
        decline: 2 alpha / sqrt(pi).
        double_square: 2 alpha^2.
        inverse_width: 1 / width.
        end: -cutoff / width.
        steepest: 1 / (sqrt(pi) width).
    """

    alpha: Vector
    decline: Vector
    double_square: Vector
    inverse_width: Vector
    end: Vector
    steepest: Vector

    @classmethod
    def load(cls, factors: Reals) -> "ScreeningFactors":
        """From the numbers of `screening_factors`."""
        return cls(*(factors.broadcast(number) for number in range(6)))


def bare_functions(square: Vector) -> Radial:
    """The functions of bare charges at distances whose squares are given; LLVM drops what is not used."""
    inverse = inverse_root(square)
    inverse_square = inverse * inverse
    minus_f = inverse_square * inverse
    return Radial(inverse, minus_f, minus_f * inverse_square * 3.0)


def screened_functions(square: Vector, screening: ScreeningFactors) -> Radial:
    """The functions of screened charges at distances whose squares are given; LLVM drops what is not used."""
    code = square.code
    inverse = inverse_root(square)
    inverse_square, distance = inverse * inverse, square * inverse
    value, exponential = erfc(screening.alpha * distance)
    u = value * inverse
    decline = screening.decline * exponential
    minus_f = (u + decline) * inverse_square
    h = code.fused(screening.double_square, decline, 3.0 * minus_f) * inverse_square
    # The factor that ends the list, and the same derivatives of it.
    place = code.fused(distance, screening.inverse_width, screening.end)
    value, exponential = erfc(least(magnitude(place), _SETTLED))
    end = select(where_negative(place), 1.0 - 0.5 * value, 0.5 * value)
    minus_end_f = screening.steepest * exponential * inverse
    end_h = minus_end_f * code.fused(2.0 * place, screening.inverse_width, inverse) * inverse
    bent = code.fused(h, end, 2.0 * (minus_f * minus_end_f))
    return Radial(u * end, code.fused(minus_f, end, u * minus_end_f), code.fused(u, end_h, bent))
