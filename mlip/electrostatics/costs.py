"""What each method is predicted to take: work, time, memory."""

import math
from dataclasses import dataclass

from mlip.electrostatics.boxes import interval
from mlip.electrostatics.inputs import Periodicity
from mlip.electrostatics.pairs import SKIN
from mlip.electrostatics.separation import Separation

# Fitted to times in float64 on one thread of a server CPU with AVX-512; only their ratios decide.
_SECONDS_PER_DIRECT_PAIR = 5e-10
_SECONDS_PER_SCREENED_PAIR = 8.5e-9
_SECONDS_PER_LISTED_PAIR = 1.8e-8
_SECONDS_PER_FLOP = 1.65e-11  # of moments
_SECONDS_PER_KERNEL_FLOP = 3.7e-11  # in open directions
_SECONDS_PER_COEFFICIENT = 1.2e-8  # of the kernel of periodic directions
_SECONDS_PER_WAVE, _SECONDS_PER_WAVE_AND_CHARGE = 3.6e-7, 1.7e-8
# Of a function of the basis at a charge.
_SECONDS_PER_HARMONIC, _SECONDS_PER_POLYNOMIAL = 2.4e-8, 7.5e-8
_BYTES_PER_LISTED_PAIR = 80  # with what is needed while it is made
# Of the small operations around the large ones.
_SECONDS_PER_DIRECT_CALL = 8e-4
_SECONDS_PER_EWALD_CALL = 1.7e-3
_SECONDS_PER_PERIODIC_CALL = 2.3e-3
_SECONDS_PER_OPEN_CALL = 2.9e-3
# In dynamics a list serves for about so many steps.
_STEPS_PER_LIST = 10


@dataclass(frozen=True)
class SystemSize:
    """What costs depend on.

    Attributes:
        pbc: Which directions are periodic.
        charges: Their number.
        channels: Charges at each place.
        lengths: Of the cell vector along periodic directions and of the box along open ones, Å.
        volume: Of the cell or box, Å³.
    """

    pbc: Periodicity
    charges: int
    channels: int
    lengths: tuple[float, float, float]
    volume: float


@dataclass(frozen=True)
class Cost:
    """Of an energy with forces: operations, seconds on one thread in float64, and the bytes held at a time."""

    flops: float
    seconds: float
    memory_bytes: int


def direct_cost(size: SystemSize) -> Cost:
    """Of the sum over all pairs."""
    pairs = float(size.charges) ** 2 * size.channels
    return Cost(
        25 * pairs, _SECONDS_PER_DIRECT_CALL + _SECONDS_PER_DIRECT_PAIR * pairs, 8 * 8 * size.charges * size.channels
    )


def short_range_cost(size: SystemSize, separation: Separation) -> Cost:
    """Of the pairs nearer than the cutoff."""
    sphere = 4 / 3 * math.pi * (separation.screening.reach + SKIN) ** 3
    pairs = float(size.charges) ** 2 * sphere / size.volume
    if not any(size.pbc):
        pairs = min(pairs, float(size.charges) ** 2)
    seconds = pairs * (_SECONDS_PER_SCREENED_PAIR * size.channels + _SECONDS_PER_LISTED_PAIR / _STEPS_PER_LIST)
    return Cost(60 * pairs * size.channels, seconds, int(_BYTES_PER_LISTED_PAIR * pairs))


def separable_cost(size: SystemSize, separation: Separation) -> Cost:
    """Of the long-range part by moments."""
    ranks, nodes = estimated_ranks(size, separation), estimated_nodes(size, separation)
    entries = float(ranks[0] * ranks[1] * ranks[2]) * size.channels
    harmonics = sum(rank for rank, periodic in zip(ranks, size.pbc, strict=True) if periodic)
    polynomials = sum(ranks) - harmonics
    moments = 6 * size.charges * entries
    kernel = 2 * nodes * entries * polynomials if polynomials else 100 * entries
    bytes_held = 8 * (6 * entries + 6 * size.charges * sum(ranks))
    bytes_held += 8 * sum(nodes * 3 * rank**2 for rank, periodic in zip(ranks, size.pbc, strict=True) if not periodic)
    seconds = _SECONDS_PER_FLOP * moments
    seconds += size.charges * (_SECONDS_PER_HARMONIC * harmonics + _SECONDS_PER_POLYNOMIAL * polynomials)
    if polynomials:
        seconds += _SECONDS_PER_OPEN_CALL + _SECONDS_PER_KERNEL_FLOP * kernel
    else:
        seconds += _SECONDS_PER_PERIODIC_CALL + _SECONDS_PER_COEFFICIENT * entries
    return Cost(moments + kernel + 200 * size.charges * sum(ranks), seconds, int(bytes_held))


def ewald_cost(size: SystemSize, separation: Separation) -> Cost:
    """Of the long-range part by an explicit sum over wave vectors."""
    waves = size.volume * separation.highest_wave_number**3 / (12 * math.pi**2)
    work = waves * size.charges
    seconds = _SECONDS_PER_EWALD_CALL + _SECONDS_PER_WAVE * waves + _SECONDS_PER_WAVE_AND_CHARGE * work
    return Cost(40 * work * size.channels, seconds, int(48 * work))


def estimated_counts(size: SystemSize, separation: Separation) -> tuple[int, int, int]:
    """Chebyshev polynomials along open directions, and cosines along periodic ones."""
    first, second, third = (
        math.ceil(separation.highest_wave_number * length / (2 * math.pi)) + 1
        if periodic
        else separation.polynomials(interval(0.0, length).length)
        for periodic, length in zip(size.pbc, size.lengths, strict=True)
    )
    return first, second, third


def estimated_ranks(size: SystemSize, separation: Separation) -> tuple[int, int, int]:
    """Functions in the basis of each direction."""
    first, second, third = (
        2 * count - 1 if periodic else _estimated_open_rank(length, separation)
        for periodic, count, length in zip(size.pbc, estimated_counts(size, separation), size.lengths, strict=True)
    )
    return first, second, third


def estimated_nodes(size: SystemSize, separation: Separation) -> int:
    """Gaussians of the long-range kernel."""
    if all(size.pbc):
        return 0
    scales = math.log2(max(separation.alpha * max(size.lengths), 2.0))
    return round(_digits(separation) * ((0.9 if not any(size.pbc) else 2.0) + 0.46 * scales))


def _estimated_open_rank(length: float, separation: Separation) -> int:
    """What the singular value decomposition finds, within some 20 %."""
    waves = separation.highest_wave_number * interval(0.0, length).length / 2
    return round(0.56 * waves + 0.75 * _digits(separation) + 2)


def _digits(separation: Separation) -> float:
    return math.log10(1 / separation.tolerance)
