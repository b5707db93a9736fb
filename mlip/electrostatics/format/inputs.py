"""What users give to build a field, checked and as float64 tensors."""

from collections.abc import Sequence
from typing import Any

import torch

from mlip.errors import ConfigError, StructureError


def as_double(values: Any, name: str) -> torch.Tensor:
    """A detached float64 tensor. Raises ConfigError for what holds no numbers."""
    try:
        return torch.as_tensor(values, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError):
        raise ConfigError(f"The {name} are no array of numbers but {type(values).__name__}: give a tensor.") from None


def checked_tolerance(tolerance: float) -> None:
    """Raise ConfigError for a tolerance outside (1e-14, 0.1)."""
    if not 1e-14 < tolerance < 0.1:
        raise ConfigError(f"The tolerance is {tolerance}: take one between 1e-14 and 0.1.")


def checked_charges(positions: Any, charges: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions `[N, 3]` and charges `[N]`, N ≥ 1. Raises StructureError for other shapes and for NaN or infinity."""
    places, amounts = as_double(positions, "positions"), as_double(charges, "charges")
    if places.ndim != 2 or places.shape[1] != 3 or len(places) == 0 or amounts.shape != places.shape[:1]:
        raise StructureError(
            f"Positions of shape {list(places.shape)} and charges of shape {list(amounts.shape)} do not fit: "
            "give [N, 3] and [N]."
        )
    for name, values in (("position", places), ("charge", amounts[:, None])):
        wrong = (~values.isfinite()).any(dim=1).nonzero()
        if len(wrong):
            place = int(wrong[0, 0])
            raise StructureError(f"The {name} of charge {place} is {values[place].tolist()}: give finite numbers.")
    return places, amounts.to(places.device)


def checked_canonical(
    weights: Any, vectors: Sequence[Any], grids: Sequence[Any]
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """Weights `[R]`, vectors `[n_d, R]` and ascending grids `[n_d]` of three axes.

    Raises ConfigError for other shapes, numbers that are not finite and grids that do not ascend.
    """
    if len(vectors) != 3 or len(grids) != 3:
        raise ConfigError(f"A canonical tensor has vectors and grids for three axes, not {len(vectors)}, {len(grids)}.")
    amounts = as_double(weights, "weights")
    columns = [as_double(values, "vectors").to(amounts.device) for values in vectors]
    axes = [as_double(grid, "grids").to(amounts.device) for grid in grids]
    for name, axis, column in zip("xyz", axes, columns, strict=True):
        if axis.ndim != 1 or len(axis) < 4 or amounts.ndim != 1 or column.shape != (len(axis), len(amounts)):
            raise ConfigError(
                f"Weights {list(amounts.shape)}, vectors {list(column.shape)} and grid {list(axis.shape)} of axis "
                f"{name} do not fit: give [R], [n, R] and [n], with n at least 4."
            )
        if not (axis.diff() > 0).all():
            raise ConfigError(f"The grid of axis {name} does not ascend: sort it, with its vectors.")
    if len(amounts) == 0 or not all(bool(values.isfinite().all()) for values in (amounts, *columns, *axes)):
        raise ConfigError("A canonical tensor needs at least one term and finite numbers: NaN, infinity or none given.")
    return amounts, columns, axes
