"""The radial table as torch operations.

Interpolation, its transpose and its product with a gradient, each for any order of the derivative, differentiate into
one another; the solution of the spline's equations is its own transpose.
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from mlip_kernels.backends import available_backend, kernels
from mlip_kernels.radial_table import reference
from mlip_kernels.radial_table.grid import KnotGrid


class KernelRadialTable(nn.Module):
    """The function of `ReferenceRadialTable`, by Numba on a CPU and by Triton on a GPU."""

    def __init__(self, grid: KnotGrid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, coefficients: Tensor, distances: Tensor, order: int = 0) -> Tensor:
        """Interpolate; arguments and result are those of `ReferenceRadialTable.forward`."""
        grid = self.grid
        result: Tensor = interpolate(coefficients, distances, grid.origin, grid.spacing, order)
        return result


def spline_coefficients(values: Tensor) -> Tensor:
    """Coefficients of the natural cubic spline through values at the knots, [knots, columns].

    The function of `reference.spline_coefficients`, by elimination in float64; differentiable any number of times.
    """
    if available_backend(values.device) == "reference":
        return reference.spline_coefficients(values)
    whole = values.double()
    first, last = whole[:1], whole[-1:]
    # The ends are known, so that what they add goes to the right-hand side and leaves a symmetric matrix.
    right = torch.cat([whole[1:2] - first / 6, whole[2:-2], whole[-2:-1] - last / 6])
    return torch.cat([first, solve(right), last]).to(values)


def _kernels(like: Tensor) -> ModuleType:
    return kernels("radial_table", like.device)


@torch.library.custom_op("mlip_kernels::radial_interpolate", mutates_args=(), device_types=("cpu", "cuda"))
def interpolate(coefficients: Tensor, distances: Tensor, origin: float, spacing: float, order: int) -> Tensor:
    """`reference.interpolate`."""
    result: Tensor = _kernels(distances).interpolate(coefficients, distances, origin, spacing, order)
    return result


@torch.library.custom_op("mlip_kernels::radial_project", mutates_args=(), device_types=("cpu", "cuda"))
def project(gradient: Tensor, distances: Tensor, origin: float, spacing: float, knots: int, order: int) -> Tensor:
    """The transpose of the interpolation, [edges, columns] to [knots, columns]."""
    result: Tensor = _kernels(distances).project(gradient, distances, origin, spacing, knots, order)
    return result


@torch.library.custom_op("mlip_kernels::radial_dot", mutates_args=(), device_types=("cpu", "cuda"))
def dot(gradient: Tensor, coefficients: Tensor, distances: Tensor, origin: float, spacing: float, order: int) -> Tensor:
    """Sum over columns of a gradient times the interpolation, [edges]."""
    result: Tensor = _kernels(distances).dot(gradient, coefficients, distances, origin, spacing, order)
    return result


@torch.library.custom_op("mlip_kernels::radial_solve", mutates_args=(), device_types=("cpu", "cuda"))
def solve(right: Tensor) -> Tensor:
    """Solution of the inner equations of a spline, float64 [knots - 2, columns]."""
    result: Tensor = _kernels(right).solve(right)
    return result


@interpolate.register_fake
def _(coefficients: Tensor, distances: Tensor, origin: float, spacing: float, order: int) -> Tensor:
    return coefficients.new_empty(distances.shape[0], coefficients.shape[1])


@project.register_fake
def _(gradient: Tensor, distances: Tensor, origin: float, spacing: float, knots: int, order: int) -> Tensor:
    return gradient.new_empty(knots, gradient.shape[1])


@dot.register_fake
def _(gradient: Tensor, coefficients: Tensor, distances: Tensor, origin: float, spacing: float, order: int) -> Tensor:
    return torch.empty_like(distances, memory_format=torch.contiguous_format)


@solve.register_fake
def _(right: Tensor) -> Tensor:
    return torch.empty_like(right, memory_format=torch.contiguous_format)


def _keep_interpolate(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    coefficients, distances, *ctx.options = inputs
    ctx.save_for_backward(coefficients, distances)


def _differentiate_interpolate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    coefficients, distances = ctx.saved_tensors
    origin, spacing, order = ctx.options
    of_coefficients = of_distances = None
    if ctx.needs_input_grad[0]:
        of_coefficients = project(gradient, distances, origin, spacing, coefficients.shape[0], order)
    if ctx.needs_input_grad[1]:
        of_distances = dot(gradient, coefficients, distances, origin, spacing, order + 1)
    return of_coefficients, of_distances, None, None, None


def _keep_project(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    gradient, distances, *ctx.options = inputs
    ctx.save_for_backward(gradient, distances)


def _differentiate_project(ctx: Any, of_result: Tensor) -> tuple[Tensor | None, ...]:
    gradient, distances = ctx.saved_tensors
    origin, spacing, _, order = ctx.options
    of_gradient = of_distances = None
    if ctx.needs_input_grad[0]:
        of_gradient = interpolate(of_result, distances, origin, spacing, order)
    if ctx.needs_input_grad[1]:
        of_distances = dot(gradient, of_result, distances, origin, spacing, order + 1)
    return of_gradient, of_distances, None, None, None, None


def _keep_dot(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    gradient, coefficients, distances, *ctx.options = inputs
    ctx.save_for_backward(gradient, coefficients, distances)


def _differentiate_dot(ctx: Any, of_result: Tensor) -> tuple[Tensor | None, ...]:
    gradient, coefficients, distances = ctx.saved_tensors
    origin, spacing, order = ctx.options
    of_gradient = of_coefficients = of_distances = None
    if ctx.needs_input_grad[0]:
        of_gradient = of_result[:, None] * interpolate(coefficients, distances, origin, spacing, order)
    if ctx.needs_input_grad[1]:
        scaled = of_result[:, None] * gradient
        of_coefficients = project(scaled, distances, origin, spacing, coefficients.shape[0], order)
    if ctx.needs_input_grad[2]:
        of_distances = of_result * dot(gradient, coefficients, distances, origin, spacing, order + 1)
    return of_gradient, of_coefficients, of_distances, None, None, None


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    pass


def _differentiate_solve(ctx: Any, gradient: Tensor) -> Tensor:
    solution: Tensor = solve(gradient)
    return solution


interpolate.register_autograd(_differentiate_interpolate, setup_context=_keep_interpolate)
project.register_autograd(_differentiate_project, setup_context=_keep_project)
dot.register_autograd(_differentiate_dot, setup_context=_keep_dot)
solve.register_autograd(_differentiate_solve, setup_context=_keep_nothing)
