"""Definition of the radial table in plain torch."""

import torch
from torch import Tensor, nn

from mlip_kernels.radial_table.grid import KnotGrid


class ReferenceRadialTable(nn.Module):
    """`f[e, p] = sum over k of coefficients[k, p] B((distances[e] - knot[k]) / spacing)`, or a derivative of it.

    B is the cubic B-spline. Outside of the second and the last but one knot the result is zero: a table that covers a
    cutoff is zero beyond it.
    """

    def __init__(self, grid: KnotGrid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, coefficients: Tensor, distances: Tensor, order: int = 0) -> Tensor:
        """Interpolate.

        Args:
            coefficients: Of the B-splines, [knots, columns], as `spline_coefficients` makes them.
            distances: Å, [edges].
            order: Of the derivative with respect to the distance, 0 or more.

        Returns:
            [edges, columns], of the dtype of the coefficients.
        """
        return interpolate(coefficients, distances, self.grid, order)


def interpolate(coefficients: Tensor, distances: Tensor, grid: KnotGrid, order: int = 0) -> Tensor:
    """The function of `ReferenceRadialTable.forward`."""
    # The place between two knots is a small difference of large numbers, hence float64.
    places = (distances.double() - grid.origin) / grid.spacing
    inside = (places >= 1) & (places < grid.knots - 2)
    kept = torch.where(inside, places, 1.0)
    cells = kept.detach().floor()
    values = basis(kept - cells, order) * (inside.double() / grid.spacing**order)
    first = cells.long() - 1
    parts = [values[spline, :, None].to(coefficients) * coefficients[first + spline] for spline in range(4)]
    # A place that is not a number is not inside, and must not pass for zero.
    return sum(parts[1:], parts[0]) + torch.where(places.isnan(), places, 0.0)[:, None].to(coefficients)


def basis(t: Tensor, order: int) -> Tensor:
    """The four B-splines that are not zero, or their derivatives, at t in [0, 1) between two knots, [4, ...]."""
    if order == 0:
        parts = (1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6
    elif order == 1:
        parts = -((1 - t) ** 2) / 2, (3 * t**2 - 4 * t) / 2, (-3 * t**2 + 2 * t + 1) / 2, t**2 / 2
    elif order == 2:
        parts = 1 - t, 3 * t - 2, 1 - 3 * t, t
    else:
        signs = (-1, 3, -3, 1) if order == 3 else (0, 0, 0, 0)
        parts = tuple(0 * t + sign for sign in signs)  # type: ignore[assignment]
    return torch.stack(parts)


def spline_coefficients(values: Tensor) -> Tensor:
    """Coefficients of the natural cubic spline through values at the knots, [knots, columns].

    At a knot the spline is (c[k-1] + 4 c[k] + c[k+1]) / 6; a natural end makes the first and the last coefficient
    equal to the values there. A dense solution, in float64.
    """
    knots = len(values)
    matrix = torch.eye(knots, dtype=torch.float64, device=values.device)
    inner = torch.arange(1, knots - 1, device=values.device)
    matrix[inner, inner] = 4 / 6
    matrix[inner, inner - 1] = matrix[inner, inner + 1] = 1 / 6
    return torch.linalg.solve(matrix, values.double()).to(values)
