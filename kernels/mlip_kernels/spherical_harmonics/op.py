"""The spherical harmonics as torch operations, differentiable any number of times.

Values, gradient and the gradient's gradient are kernels; derivatives beyond are those of the reference.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from mlip_kernels.backends import kernels
from mlip_kernels.spherical_harmonics.reference import harmonics
from mlip_kernels.spherical_harmonics.table import HarmonicsTable, highest_degree


class KernelSphericalHarmonics(nn.Module):
    """The function of `ReferenceSphericalHarmonics`, by Numba on a CPU and by Triton on a GPU."""

    def __init__(self, table: HarmonicsTable) -> None:
        super().__init__()
        self.table = table

    def forward(self, vectors: Tensor) -> Tensor:
        """Evaluate; argument and result are those of `ReferenceSphericalHarmonics.forward`."""
        result: Tensor = values(vectors, *self.table.terms)
        return result


def _kernels(like: Tensor) -> ModuleType:
    return kernels("spherical_harmonics", like.device)


@torch.library.custom_op("mlip_kernels::spherical_harmonics", mutates_args=(), device_types=("cpu", "cuda"))
def values(vectors: Tensor, indices: Sequence[int], coefficients: Sequence[float]) -> Tensor:
    """Harmonics of a table with these terms, [edges, components], of vectors [edges, 3]."""
    result: Tensor = _kernels(vectors).values(vectors, indices, coefficients)
    return result


@torch.library.custom_op("mlip_kernels::spherical_harmonics_backward", mutates_args=(), device_types=("cpu", "cuda"))
def backward(vectors: Tensor, gradient: Tensor, indices: Sequence[int], coefficients: Sequence[float]) -> Tensor:
    """Gradient of `<gradient, values>` with respect to the vectors."""
    result: Tensor = _kernels(vectors).backward(vectors, gradient, indices, coefficients)
    return result


@torch.library.custom_op("mlip_kernels::spherical_harmonics_second", mutates_args=(), device_types=("cpu", "cuda"))
def second(
    vectors: Tensor, gradient: Tensor, cotangent: Tensor, indices: Sequence[int], coefficients: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Gradients of `<cotangent, backward>` with respect to the vectors and to the gradient."""
    result: tuple[Tensor, Tensor] = _kernels(vectors).second(vectors, gradient, cotangent, indices, coefficients)
    return result


@values.register_fake
def _(vectors: Tensor, indices: Sequence[int], coefficients: Sequence[float]) -> Tensor:
    return vectors.new_empty(vectors.shape[0], (highest_degree(indices) + 1) ** 2)


@backward.register_fake
def _(vectors: Tensor, gradient: Tensor, indices: Sequence[int], coefficients: Sequence[float]) -> Tensor:
    return torch.empty_like(vectors, memory_format=torch.contiguous_format)


@second.register_fake
def _(
    vectors: Tensor, gradient: Tensor, cotangent: Tensor, indices: Sequence[int], coefficients: Sequence[float]
) -> tuple[Tensor, Tensor]:
    kept = torch.contiguous_format
    return torch.empty_like(vectors, memory_format=kept), torch.empty_like(gradient, memory_format=kept)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.indices, ctx.coefficients = inputs
    ctx.save_for_backward(*tensors)


def _differentiate_values(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    (vectors,) = ctx.saved_tensors
    return backward(vectors, gradient, ctx.indices, ctx.coefficients), None, None


def _differentiate_backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    vectors, gradient = ctx.saved_tensors
    return *second(vectors, gradient, cotangent, ctx.indices, ctx.coefficients), None, None


def _differentiate_second(ctx: Any, of_vectors: Tensor, of_gradient: Tensor) -> tuple[Tensor | None, ...]:
    again = torch.is_grad_enabled()
    table = HarmonicsTable.from_terms(ctx.indices, ctx.coefficients)
    with torch.enable_grad():
        # Views, since one of these may have been computed from another, and partial derivatives are wanted.
        given = [each if each.requires_grad else each.detach().requires_grad_() for each in ctx.saved_tensors]
        inputs = tuple(each.view_as(each) for each in given)
        vectors, gradient, cotangent = inputs
        result = harmonics(vectors, [torch.tensor(raising).to(vectors) for raising in table.raisings])
        (first,) = torch.autograd.grad(result, vectors, gradient, create_graph=True)
        outputs = torch.autograd.grad(first, (vectors, gradient), cotangent, create_graph=True)
        wanted = torch.autograd.grad(outputs, inputs, (of_vectors, of_gradient), create_graph=again, allow_unused=True)
    return *wanted, None, None


values.register_autograd(_differentiate_values, setup_context=_keep)
backward.register_autograd(_differentiate_backward, setup_context=_keep)
second.register_autograd(_differentiate_second, setup_context=_keep)
