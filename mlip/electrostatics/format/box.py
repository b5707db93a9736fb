"""The box a field is defined on, and its map onto the cube [−1, 1]³."""

from typing import Any

import torch

from mlip.errors import ConfigError, StructureError

# A point on a face may lie outside by rounding.
_SLACK = 1e-12


def checked_box(box: Any) -> torch.Tensor:
    """Lower and upper corner as a float64 tensor `[2, 3]`. Raises ConfigError for anything else."""
    try:
        corners = torch.as_tensor(box, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        corners = torch.empty(0)
    if corners.shape != (2, 3) or not corners.isfinite().all() or not (corners[0] < corners[1]).all():
        raise ConfigError(f"A box is a lower and an upper corner of three finite numbers each, lower first, not {box}.")
    return corners.detach()


def to_cube(points: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """Points `[..., 3]` of the box in the cube [−1, 1]³; differentiable."""
    return (2 * points - (box[0] + box[1])) / (box[1] - box[0])


def from_cube(points: torch.Tensor, box: torch.Tensor, axis: int) -> torch.Tensor:
    """Coordinates of [−1, 1] along an axis of the box."""
    return box[0, axis] + (points + 1) * ((box[1, axis] - box[0, axis]) / 2)


def require_inside(points: torch.Tensor, box: torch.Tensor) -> None:
    """Raise StructureError if a point `[N, 3]` is not in the box, or not finite."""
    slack = _SLACK * (box[1] - box[0])
    inside = ((points >= box[0] - slack) & (points <= box[1] + slack)).all(dim=-1)
    if not bool(inside.all()):
        place = int((~inside).nonzero()[0, 0])
        raise StructureError(
            f"Point {place} at {_numbers(points[place])} is outside the box from {_numbers(box[0])} to "
            f"{_numbers(box[1])}, where the polynomials of the field explode: build the field on a larger box."
        )


def _numbers(values: torch.Tensor) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values.tolist()) + ")"


def spread_points(box: torch.Tensor, count: int) -> torch.Tensor:
    """`count` points spread evenly over the box, always the same (a Sobol sequence), `[count, 3]`."""
    cube = torch.quasirandom.SobolEngine(3).draw(count, dtype=torch.float64).to(box.device)
    return box[0] + cube * (box[1] - box[0])
