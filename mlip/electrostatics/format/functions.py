"""From a function of three coordinates to the tensor of its Chebyshev coefficients."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from mlip.electrostatics.chebyshev import chebyshev_nodes, coefficients_from_values
from mlip.electrostatics.format.box import from_cube, spread_points
from mlip.electrostatics.format.degrees import MOST, Degrees, resolving_degree
from mlip.electrostatics.format.tucker import Tucker, transform
from mlip.errors import ConfigError

Function = Callable[[torch.Tensor], torch.Tensor]

MOST_BYTES = 1 << 31
_CHUNK = 1 << 18  # points of a call
_LINES = 12  # along each axis, on which the function is looked at to find its degree


def checked_function(function: Any) -> Function:
    """The function, called on at most 2¹⁸ points at a time; its answers are checked.

    Raises ConfigError where they are not finite numbers, one for each point.
    """

    def evaluate(points: torch.Tensor) -> torch.Tensor:
        parts = []
        for part in points.split(_CHUNK):
            result = function(part)
            if not isinstance(result, torch.Tensor) or result.shape != part.shape[:1]:
                given = tuple(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__
                raise ConfigError(
                    f"A function of points [{len(part)}, 3] has to return a tensor [{len(part)}], not {given}."
                )
            if not result.isfinite().all():
                place = part[int((~result.isfinite()).nonzero()[0, 0])].tolist()
                raise ConfigError(f"The function is not finite at {place}: choose a box on which it is.")
            parts.append(result.detach().to(torch.float64))
        return torch.cat(parts)

    return evaluate


def sampled_degrees(function: Function, box: torch.Tensor, tolerance: float) -> Degrees:
    """Coefficients each axis needs, from lines spread over the box. Raises ConfigError if 513 are not enough."""
    starts = spread_points(box, _LINES)
    scale = float(function(spread_points(box, 64)).abs().max())
    degrees = []
    for axis in range(3):

        def along(nodes: torch.Tensor, axis: int = axis) -> torch.Tensor:
            points = starts.repeat(len(nodes), 1, 1)
            points[:, :, axis] = from_cube(nodes.to(box.device), box, axis)[:, None]
            values = function(points.flatten(0, 1)).reshape(len(nodes), _LINES)
            # A constant beside them, so that lines on which the function is small count for no more than they are.
            return torch.cat([values, torch.full_like(values[:, :1], scale)], dim=1)

        degree = resolving_degree(along, tolerance)
        if degree is None:
            raise ConfigError(
                f"{MOST} Chebyshev nodes along axis {axis} do not resolve the function to a tolerance of "
                f"{tolerance:g}: it is not smooth there; choose a smaller box, a larger tolerance, or give a degree."
            )
        degrees.append(degree)
    return degrees[0], degrees[1], degrees[2]


def interpolate(function: Function, box: torch.Tensor, degrees: Sequence[int]) -> Tucker:
    """Interpolant at the Chebyshev nodes, uncompressed. Raises ConfigError if it would take more than 2 GiB."""
    if 8 * math.prod(degrees) > MOST_BYTES:
        raise ConfigError(
            f"Interpolation at {degrees[0]} × {degrees[1]} × {degrees[2]} nodes takes "
            f"{8 * math.prod(degrees) / 2**30:.1f} GiB, more than {MOST_BYTES / 2**30:g}: lower the degree."
        )
    axes = [from_cube(chebyshev_nodes(degree).to(box.device), box, axis) for axis, degree in enumerate(degrees)]
    # One slab of x at a time: the points of all of them would take three times the memory of the values.
    plane = torch.cartesian_prod(axes[1], axes[2])
    slabs = [
        function(torch.cat([x.expand(len(plane), 1), plane], dim=1)).reshape(degrees[1], degrees[2]) for x in axes[0]
    ]
    coefficients = transform(
        torch.stack(slabs), [coefficients_from_values(degree).to(box.device) for degree in degrees]
    )
    factors = [torch.eye(degree, dtype=torch.float64, device=box.device) for degree in degrees]
    return Tucker(coefficients, (factors[0], factors[1], factors[2]))
