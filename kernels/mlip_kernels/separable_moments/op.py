"""The maps between particles and coefficient tensors as torch operations that differentiate into one another."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from mlip_kernels.backends import available_backend, kernels
from mlip_kernels.operand_types import check_types
from mlip_kernels.separable_moments import reference


def separable_moments(charges: Tensor, x: Tensor, y: Tensor, z: Tensor, structure_starts: Tensor) -> Tensor:
    """Moments of the particles of each structure: `M[s,c,a,b,d] = sum of q[i,c] x[i,a] y[i,b] z[i,d]` over its i.

    Args:
        charges: [particles, channels], float32 or float64; the particles of a structure stand together.
        x: Values of the basis functions of the first axis at the particles, [particles, ra].
        y: Of the second axis, [particles, rb].
        z: Of the third axis, [particles, rc].
        structure_starts: First particle of each structure, and the number of particles, int64 [structures + 1].

    Returns:
        [structures, channels, ra, rb, rc]; differentiable any number of times. No array is larger than the operands
        and the result, whatever the number of particles.

    Raises:
        ValueError: the operands are not all float32 or all float64.
    """
    check_types(charges, x, y, z)
    result: Tensor = moments(charges, x, y, z, structure_starts)
    return result


def separable_evaluation(tensor: Tensor, x: Tensor, y: Tensor, z: Tensor, structure_starts: Tensor) -> Tensor:
    """Values of functions with these coefficients: `f[i,c] = sum of T[s,c,a,b,d] x[i,a] y[i,b] z[i,d]` over a, b, d.

    The transpose of `separable_moments` as a map from charges.

    Args:
        tensor: Coefficients, [structures, channels, ra, rb, rc], float32 or float64.
        x: Values of the basis functions of the first axis at the points, [points, ra].
        y: Of the second axis, [points, rb].
        z: Of the third axis, [points, rc].
        structure_starts: First point of each structure, and the number of points, int64 [structures + 1].

    Returns:
        [points, channels]; differentiable any number of times.

    Raises:
        ValueError: the operands are not all float32 or all float64.
    """
    check_types(tensor, x, y, z)
    result: Tensor = evaluation(tensor, x, y, z, structure_starts)
    return result


def implementation(like: Tensor) -> ModuleType:
    """`reference`, `cpu` or `gpu`."""
    return reference if available_backend(like.device) == "reference" else kernels("separable_moments", like.device)


@torch.library.custom_op("mlip_kernels::separable_moments", mutates_args=())
def moments(charges: Tensor, x: Tensor, y: Tensor, z: Tensor, starts: Tensor) -> Tensor:
    """`reference.moments`."""
    result: Tensor = implementation(x).moments(charges, x, y, z, starts)
    return result


@torch.library.custom_op("mlip_kernels::separable_evaluation", mutates_args=())
def evaluation(tensor: Tensor, x: Tensor, y: Tensor, z: Tensor, starts: Tensor) -> Tensor:
    """`reference.evaluation`."""
    result: Tensor = implementation(x).evaluation(tensor, x, y, z, starts)
    return result


@torch.library.custom_op("mlip_kernels::separable_gradients", mutates_args=())
def gradients(
    tensor: Tensor, charges: Tensor, x: Tensor, y: Tensor, z: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`reference.gradients`."""
    result: tuple[Tensor, Tensor, Tensor, Tensor] = implementation(x).gradients(tensor, charges, x, y, z, starts)
    return result


@moments.register_fake
def _(charges: Tensor, x: Tensor, y: Tensor, z: Tensor, starts: Tensor) -> Tensor:
    return x.new_empty(starts.shape[0] - 1, charges.shape[1], x.shape[1], y.shape[1], z.shape[1])


@evaluation.register_fake
def _(tensor: Tensor, x: Tensor, y: Tensor, z: Tensor, starts: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], tensor.shape[1])


@gradients.register_fake
def _(
    tensor: Tensor, charges: Tensor, x: Tensor, y: Tensor, z: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    kept = torch.contiguous_format
    of_charges, of_x, of_y, of_z = (torch.empty_like(each, memory_format=kept) for each in (charges, x, y, z))
    return of_charges, of_x, of_y, of_z


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate_moments(ctx: Any, received: Tensor) -> tuple[Tensor | None, ...]:
    charges, *others = ctx.saved_tensors
    if any(ctx.needs_input_grad[1:]):
        return *gradients(received, charges, *others), None
    return evaluation(received, *others), None, None, None, None


def _differentiate_evaluation(ctx: Any, received: Tensor) -> tuple[Tensor | None, ...]:
    tensor, *factors = ctx.saved_tensors
    of_tensor = moments(received, *factors) if ctx.needs_input_grad[0] else None
    if not any(ctx.needs_input_grad[1:]):
        return of_tensor, None, None, None, None
    _, *of_factors = gradients(tensor, received, *factors)
    return of_tensor, *of_factors, None


def _differentiate_gradients(ctx: Any, *changes: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of the change of L along changes of charges and factors.

    That is a sum of four times L, each with one operand changed: L of four times as many particles.
    """
    tensor, *operands, starts = ctx.saved_tensors
    count = len(operands)
    fourfold = []
    for number, (operand, changed) in enumerate(zip(operands, changes, strict=True)):
        copies = [changed if place == number else operand for place in range(count)]
        fourfold.append(torch.stack(copies, 1).flatten(0, 1))
    of_tensor = moments(*fourfold, count * starts) if ctx.needs_input_grad[0] else None
    if not any(ctx.needs_input_grad[1:]):
        return of_tensor, *[None] * (count + 1)
    found = gradients(tensor, *fourfold, count * starts)
    results = []
    for number, gradient in enumerate(found):
        parts = gradient.unflatten(0, (-1, count))
        # In the copy in which an operand is the changed one, it does not occur itself.
        kept = [place for place in range(count) if place != number]
        results.append(parts[:, kept].sum(1))
    return of_tensor, *results, None


moments.register_autograd(_differentiate_moments, setup_context=_keep)
evaluation.register_autograd(_differentiate_evaluation, setup_context=_keep)
gradients.register_autograd(_differentiate_gradients, setup_context=_keep)
