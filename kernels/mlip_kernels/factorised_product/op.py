"""The factorised product as a torch operation.

With g for the gradient of the result, `<g, result>` is the same form whichever of g, x and y is set apart. Gradients of
the operands are products of the same kind, summed over channels where an operand has one.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mlip_kernels.backends import kernels


class KernelFactorisedProduct(nn.Module):
    """The function of `ReferenceFactorisedProduct` of constant tables, compiled for a CPU, by Triton on a GPU."""

    def forward(
        self, x: Tensor, y: Tensor, first: Tensor, second: Tensor, third: Tensor, summed: bool = False
    ) -> Tensor:
        """Multiply; arguments and result are those of `ReferenceFactorisedProduct.forward`.

        Raises:
            ValueError: a table requires a gradient.
        """
        if any(table.requires_grad for table in (first, second, third)):
            raise ValueError(
                "the tables of a factorised product require gradients, but its kernels take them for constants: "
                "detach them, or use the reference."
            )
        result: Tensor = product(x, y, first, second, third, summed)
        return result


@torch.library.custom_op("mlip_kernels::factorised_product", mutates_args=(), device_types=("cpu", "cuda"))
def product(x: Tensor, y: Tensor, first: Tensor, second: Tensor, third: Tensor, summed: bool) -> Tensor:
    """`reference.product`."""
    result: Tensor = kernels("factorised_product", x.device).product(x, y, first, second, third, summed)
    return result


@product.register_fake
def _(x: Tensor, y: Tensor, first: Tensor, second: Tensor, third: Tensor, summed: bool) -> Tensor:
    return x.new_empty(x.shape[0], third.shape[1], 1 if summed else max(x.shape[2], y.shape[2]))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, y, first, second, third = ctx.saved_tensors
    of_x = of_y = None
    if ctx.needs_input_grad[0]:
        summed = x.shape[2] < max(gradient.shape[2], y.shape[2])
        of_x = product(gradient, y, third, second, first, summed).expand(x.shape)
    if ctx.needs_input_grad[1]:
        summed = y.shape[2] < max(gradient.shape[2], x.shape[2])
        of_y = product(gradient, x, third, first, second, summed).expand(y.shape)
    return of_x, of_y, None, None, None, None


product.register_autograd(_differentiate, setup_context=_keep)
