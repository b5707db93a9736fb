"""The class `ChebyshevTucker`: a smooth field on a box as a short sum of products of polynomials."""

import math
import os
from collections.abc import Callable, Sequence
from typing import Self

import torch
from numpy.typing import ArrayLike

from mlip.electrostatics.chebyshev import chebyshev_nodes, chebyshev_values, coefficients_from_values
from mlip.electrostatics.constants import COULOMB_CONSTANT
from mlip.electrostatics.format import evaluation, storage
from mlip.electrostatics.format.box import checked_box, from_cube, require_inside, spread_points, to_cube
from mlip.electrostatics.format.canonical import interpolate_columns, reduced_hosvd, sampled_canonical
from mlip.electrostatics.format.charges import long_range_degrees, long_range_potential, long_range_tensor
from mlip.electrostatics.format.degrees import checked_degrees, resolving_degree
from mlip.electrostatics.format.functions import checked_function, interpolate, sampled_degrees
from mlip.electrostatics.format.inputs import checked_canonical, checked_charges, checked_tolerance
from mlip.electrostatics.format.tucker import Tucker, add, compress, transform, unfold
from mlip.errors import ConfigError

_MARGIN = 3.0  # Å around charges
_SAMPLES = 512  # points at which errors are measured
_ATTEMPTS = 4  # at functions that the lines first looked at say too little of


class ChebyshevTucker:
    """A field on a box: f(x, y, z) = Σ_abc core_abc u_a(x) v_b(y) w_c(z), with u, v, w sums of Chebyshev polynomials.

    The format of Benner et al. 2025 (arXiv 2503.01696): the tensor of Chebyshev coefficients of an interpolant,
    compressed by a Tucker decomposition. It takes kilobytes, needs no mesh, and is evaluated and differentiated
    anywhere in its box. For static fields: a potential whose sources move is the business of `CoulombSolver`, whose
    forces are exact derivatives.

    Built by `from_charges`, `from_canonical`, `from_function` or `load`. Fields of one box are added; all are scaled
    by numbers. Everything is held and computed in float64.

    Attributes:
        box: lower and upper corner, `[2, 3]`.
        error_estimate: largest absolute error seen at 512 points spread over the box, where the field was compared
            with what it stands for; sums and rounding add theirs. A measurement, no bound: the largest error anywhere
            is a few times larger.
    """

    def __init__(self, tensor: Tucker, box: torch.Tensor, error_estimate: float) -> None:
        self.tensor = tensor
        self.box = box
        self.error_estimate = error_estimate

    @classmethod
    def from_charges(
        cls,
        positions: ArrayLike | torch.Tensor,
        charges: ArrayLike | torch.Tensor,
        *,
        alpha: float,
        degree: int | Sequence[int] | None = 129,
        tolerance: float = 1e-7,
        box: ArrayLike | torch.Tensor | None = None,
    ) -> Self:
        """The long-range potential of point charges, Σ_i q_i erf(α|r − r_i|)/|r − r_i|, in V.

        Args:
            positions: `[N, 3]`, Å.
            charges: `[N]`, e.
            alpha: Range separation α, 1/Å.
            degree: Chebyshev coefficients along each axis, one number or three; None takes those the tolerance needs.
            tolerance: Relative error of the compression, in the norm of the coefficients.
            box: Lower and upper corner, `[2, 3]`, Å, around all charges; None leaves 3 Å around them.

        Raises:
            StructureError: positions or charges are not finite or not of one length, or a charge is outside the box.
            ConfigError: another argument is out of range.
        """
        places, amounts = checked_charges(positions, charges)
        if box is None:
            corners = torch.stack([places.amin(dim=0) - _MARGIN, places.amax(dim=0) + _MARGIN])
        else:
            corners = checked_box(box).to(places.device)
        require_inside(places, corners)
        checked_tolerance(tolerance)
        if not (math.isfinite(alpha) and alpha > 0):
            raise ConfigError(f"The range separation alpha is {alpha}: give a positive number, in 1/Å.")
        degrees = long_range_degrees(alpha, corners, tolerance) if degree is None else checked_degrees(degree)
        tensor = long_range_tensor(places, COULOMB_CONSTANT * amounts, alpha, corners, degrees, tolerance)
        points = spread_points(corners, _SAMPLES)
        exact = long_range_potential(points, places, COULOMB_CONSTANT * amounts, alpha)
        return cls._compressed(tensor, corners, tolerance, points, exact)

    @classmethod
    def from_canonical(
        cls,
        weights: ArrayLike | torch.Tensor,
        vectors: Sequence[ArrayLike | torch.Tensor],
        grids: Sequence[ArrayLike | torch.Tensor],
        degree: int | Sequence[int] | None = 129,
        tolerance: float = 1e-7,
    ) -> Self:
        """A tensor in canonical (CP) format on a grid, Σ_k w_k u_k(x) v_k(y) w_k(z), joined by cubic splines.

        Args:
            weights: `[R]`.
            vectors: For each axis the values on its grid, `[n_d, R]`.
            grids: For each axis the coordinates, `[n_d]`, ascending, at least 4; the box is their range.
            degree: Chebyshev coefficients along each axis, one number or three; None takes those the tolerance needs,
                but no more than the grid has points, beyond which only the joints of splines are resolved.
            tolerance: Relative error of the compression, in the norm of the coefficients.

        Raises:
            ConfigError: shapes do not fit, values are not finite, a grid does not ascend, a number is out of range.
        """
        amounts, columns, axes = checked_canonical(weights, vectors, grids)
        checked_tolerance(tolerance)
        box = torch.stack([torch.stack([axis[0] for axis in axes]), torch.stack([axis[-1] for axis in axes])])

        def at_nodes(axis: int, nodes: torch.Tensor) -> torch.Tensor:
            points = from_cube(nodes.to(box.device), box, axis).clamp(axes[axis][0], axes[axis][-1])
            return interpolate_columns(axes[axis], columns[axis], points)

        if degree is None:
            degrees = [
                resolving_degree(lambda nodes, axis=axis: at_nodes(axis, nodes), tolerance, len(axes[axis]))  # type: ignore[misc]
                or len(axes[axis])
                for axis in range(3)
            ]
        else:
            degrees = list(checked_degrees(degree))
        coefficients = [
            coefficients_from_values(count).to(box.device) @ at_nodes(axis, chebyshev_nodes(count))
            for axis, count in enumerate(degrees)
        ]
        tensor = reduced_hosvd(amounts, coefficients, tolerance)
        points, exact = sampled_canonical(amounts, columns, axes, _SAMPLES)
        return cls._compressed(tensor, box, tolerance, points, exact)

    @classmethod
    def from_function(
        cls,
        function: Callable[[torch.Tensor], torch.Tensor],
        box: ArrayLike | torch.Tensor,
        degree: int | Sequence[int] | None = None,
        tolerance: float = 1e-7,
    ) -> Self:
        """Interpolate a function at the Chebyshev nodes of a box.

        Args:
            function: From points `[M, 3]`, float64, to values `[M]`.
            box: Lower and upper corner, `[2, 3]`.
            degree: Chebyshev coefficients along each axis, one number or three; None finds those the tolerance needs
                from lines through the box, and takes more where the result is not as accurate as asked.
            tolerance: Relative error of the compression, in the norm of the coefficients; with degree None, also the
                error of the interpolation relative to the largest value.

        Raises:
            ConfigError: the function returns something else than finite numbers, is not smooth enough for the
                tolerance, or the interpolation would take more than 2 GiB; or another argument is out of range.
        """
        corners = checked_box(box)
        checked_tolerance(tolerance)
        evaluate = checked_function(function)
        points = spread_points(corners, _SAMPLES)
        exact = evaluate(points)
        if degree is not None:
            return cls._compressed(
                interpolate(evaluate, corners, checked_degrees(degree)), corners, tolerance, points, exact
            )
        allowed = 10 * tolerance * float(exact.abs().max())
        degrees = sampled_degrees(evaluate, corners, tolerance)
        for _ in range(_ATTEMPTS):
            field = cls._compressed(interpolate(evaluate, corners, degrees), corners, tolerance, points, exact)
            if field.error_estimate <= allowed:
                return field
            degrees = checked_degrees([max(33, 2 * count) for count in degrees])
        raise ConfigError(
            f"At degrees {field.degrees} the error is still {field.error_estimate:.1e}, more than {allowed:.1e}: the "
            "function is not smooth; choose a smaller box, a larger tolerance, or give a degree."
        )

    @classmethod
    def _compressed(
        cls, tensor: Tucker, box: torch.Tensor, tolerance: float, points: torch.Tensor, exact: torch.Tensor
    ) -> Self:
        field = cls(compress(tensor, tolerance)[0], box, 0.0)
        field.error_estimate = float((field(points) - exact).abs().max())
        return field

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """Values at points `[N, 3]` (or `[..., 3]`), `[N]`, in the dtype of the points; differentiable to any order.

        Raises StructureError for a point outside the box.
        """
        return self._evaluate(evaluation.values, points)

    def gradient(self, points: torch.Tensor) -> torch.Tensor:
        """Derivatives by x, y and z at points `[N, 3]` (or `[..., 3]`), of the same shape; differentiable to any order.

        Of a potential in V: in V/Å, the negative of the electric field. Raises StructureError for a point outside.
        """
        gradients = self._evaluate(evaluation.gradients, points)
        return gradients * (2 / (self.box[1] - self.box[0])).to(gradients)

    def _evaluate(self, function: Callable[[Tucker, torch.Tensor], torch.Tensor], points: torch.Tensor) -> torch.Tensor:
        if not isinstance(points, torch.Tensor) or points.ndim == 0 or points.shape[-1] != 3:
            given = list(points.shape) if isinstance(points, torch.Tensor) else type(points).__name__
            raise ConfigError(f"A field is evaluated at a tensor of points [..., 3], not {given}.")
        rows = points.reshape(-1, 3).to(torch.float64)
        require_inside(rows.detach(), self.box)
        result = function(self.tensor, to_cube(rows, self.box))
        return result.reshape(points.shape[:-1] + result.shape[1:]).to(points.dtype)

    def on_grid(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Values on the grid of coordinates `[m₁]`, `[m₂]`, `[m₃]` inside the box, `[m₁, m₂, m₃]`.

        By products axis after axis, which takes about 2 r operations a value instead of 2 r³.

        Raises StructureError for a coordinate outside the box.
        """
        matrices = []
        for axis, (coordinates, factor) in enumerate(zip((x, y, z), self.tensor.factors, strict=True)):
            points = self.box.mean(dim=0).repeat(len(coordinates), 1)
            points[:, axis] = coordinates
            require_inside(points, self.box)
            matrices.append(chebyshev_values(to_cube(points, self.box)[:, axis], len(factor)) @ factor)
        return transform(self.tensor.core, matrices)

    @property
    def ranks(self) -> tuple[int, int, int]:
        """Functions of one coordinate along each axis."""
        first, second, third = self.tensor.core.shape
        return first, second, third

    @property
    def degrees(self) -> tuple[int, int, int]:
        """Chebyshev coefficients (the paper's degree, one more than that of the polynomials) along each axis."""
        first, second, third = (len(factor) for factor in self.tensor.factors)
        return first, second, third

    @property
    def memory_bytes(self) -> int:
        """Memory of the core and the factors."""
        return 8 * (self.tensor.core.numel() + sum(factor.numel() for factor in self.tensor.factors))

    @property
    def singular_values(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Those of the unfolded coefficients along each axis, `[r_d]`, falling."""
        first, second, third = (torch.linalg.svdvals(unfold(self.tensor.core, axis)) for axis in range(3))
        return first, second, third

    def round(self, tolerance: float) -> Self:
        """A field of lower ranks within a relative tolerance, in the norm of the coefficients."""
        checked_tolerance(tolerance)
        points = spread_points(self.box, _SAMPLES)
        rounded = self._compressed(self.tensor, self.box, tolerance, points, self(points))
        rounded.error_estimate += self.error_estimate
        return rounded

    def __add__(self, other: Self) -> Self:
        """The sum of fields of one box, exact to rounding. Raises ConfigError for other boxes."""
        if not isinstance(other, ChebyshevTucker):
            return NotImplemented
        if not torch.equal(self.box, other.box):
            raise ConfigError(
                f"Fields on different boxes, {self.box.tolist()} and {other.box.tolist()}, cannot be added: "
                "build both with the same box."
            )
        return type(self)(add([self.tensor, other.tensor]), self.box, self.error_estimate + other.error_estimate)

    def __mul__(self, factor: float) -> Self:
        """The field times a number."""
        if not isinstance(factor, (int, float)):
            return NotImplemented
        tensor = Tucker(factor * self.tensor.core, self.tensor.factors)
        return type(self)(tensor, self.box, abs(factor) * self.error_estimate)

    __rmul__ = __mul__

    def __neg__(self) -> Self:
        return self * -1.0

    def __sub__(self, other: Self) -> Self:
        return self + -other

    def to(self, device: torch.device | str) -> Self:
        """The field on another device."""
        first, second, third = (factor.to(device) for factor in self.tensor.factors)
        tensor = Tucker(self.tensor.core.to(device), (first, second, third))
        return type(self)(tensor, self.box.to(device), self.error_estimate)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the field to an HDF5 file, which appears complete or not at all."""
        storage.save(path, self.tensor, self.box, self.error_estimate)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a field written by `save`, the same to the last bit.

        Raises:
            FileMissingError: there is no such file.
            DataError: it is damaged, of another kind, or of a later format.
        """
        return cls(*storage.load(path))

    def __repr__(self) -> str:
        return f"ChebyshevTucker(degrees={self.degrees}, ranks={self.ranks}, error_estimate={self.error_estimate:.1e})"
