"""How many Chebyshev coefficients an axis needs."""

from collections.abc import Callable, Sequence
from operator import index

import torch

from mlip.electrostatics.chebyshev import chebyshev_nodes, coefficients_from_values
from mlip.errors import ConfigError

Degrees = tuple[int, int, int]

MOST = 513
_MOST_GIVEN = 4097
_FIRST = 17


def checked_degrees(degree: int | Sequence[int]) -> Degrees:
    """One number for all axes or one for each. Raises ConfigError where they are not whole numbers from 1 to 4097."""
    try:
        degrees = [index(count) for count in ([degree] * 3 if isinstance(degree, int) else degree)]
    except TypeError:
        degrees = []
    if len(degrees) != 3 or min(degrees) < 1 or max(degrees) > _MOST_GIVEN:
        raise ConfigError(f"A degree is one or three whole numbers from 1 to {_MOST_GIVEN}, not {degree}.")
    return degrees[0], degrees[1], degrees[2]


def resolving_degree(
    function: Callable[[torch.Tensor], torch.Tensor], tolerance: float, most: int = MOST
) -> int | None:
    """Coefficients needed for functions on [−1, 1] to an error of `tolerance` times their largest value.

    `function` gives values `[n, functions]` at nodes `[n]`. The nodes are doubled until the last eighth of the
    coefficients is that small; what is left beyond is then cut off. None if `most` nodes are not enough.
    """
    count = _FIRST
    while count <= most:
        samples = function(chebyshev_nodes(count))
        allowed = tolerance * float(samples.abs().max())
        sizes = (coefficients_from_values(count).to(samples) @ samples).abs()
        tails = sizes.flip(0).cumsum(0).flip(0).amax(dim=1)
        if float(tails[-(count // 8) :].max()) <= allowed:
            return max(1, int((tails > allowed).sum()))
        count = 2 * count - 1
    return None
