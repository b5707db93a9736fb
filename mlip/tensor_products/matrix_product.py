"""Products of matrices between linear maps, in runs of rows whose matrices stay in the processor's cache."""

from typing import Any

import torch
from torch import Tensor

# Bytes of the matrices of a run: in a core's second-level cache on a CPU; elsewhere this only bounds the memory.
_CACHED_BYTES = 1 << 20
_DEVICE_BYTES = 1 << 28


class MatrixProduct(torch.autograd.Function):
    """`third^T ((second y) (first x))` of tables that turn features into matrices, [signals, n, n, components].

    Of the two operands and what the result is paired with, at most two have channels: the other one is shared by all of
    them. With G for the latter it is the trilinear form tr(G^T Y X), so that its gradients, by Y^T G and G X^T, are
    products of the same kind. It keeps x and y for them and no matrices: to make those again is cheaper than to write
    and read them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, channels: int, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
        """Multiply x [batch, d1, C] and y [batch, d2, 1], or the other way round, or both of C channels into one.

        Args:
            ctx: Autograd's context.
            x: First operand.
            y: Second operand.
            channels: Of the result: C, or 1 for the sum over channels where both operands have C.
            first: Table of x.
            second: Table of y.
            third: Table of the result.

        Returns:
            [batch, d3, channels].
        """
        ctx.save_for_backward(x, y)
        ctx.tables = first, second, third
        if x.shape[2] < y.shape[2]:
            # A matrix that channels share stands on the left: the transposed product has its factors in that order.
            x, y = y, x
            first, second, third = (table.transpose(1, 2) for table in (second, first, third))
        multiply = _shared if y.shape[2] == 1 else _summed
        result = x.new_empty(len(x), third.shape[3], channels)
        run = _run(x, first[..., 0].numel() * (2 * x.shape[2] + y.shape[2]))
        for part_x, part_y, part in zip(x.split(run), y.split(run), result.split(run), strict=True):
            multiply(part_x, part_y, part, first, second, third)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        first, second, third = ctx.tables
        (gradient,) = gradients
        of_x = of_y = None
        if ctx.needs_input_grad[0]:
            of_x = MatrixProduct.apply(gradient, y, x.shape[2], third, second.transpose(1, 2), first)
        if ctx.needs_input_grad[1]:
            of_y = MatrixProduct.apply(x, gradient, y.shape[2], first.transpose(1, 2), third, second)
        return of_x, of_y, None, None, None, None


def _shared(x: Tensor, y: Tensor, result: Tensor, first: Tensor, second: Tensor, third: Tensor) -> None:
    """Y multiplies X from the left, whose rows run along columns and channels."""
    right = (first.flatten(0, 2) @ x).unflatten(1, first.shape[:3]).flatten(3)
    left = (y[:, :, 0] @ second.flatten(0, 2).T).unflatten(1, second.shape[:3])
    product = (left @ right).unflatten(3, (-1, x.shape[2])).flatten(1, 3)
    torch.bmm(third.flatten(0, 2).T.expand(len(x), -1, -1), product, out=result)


def _summed(x: Tensor, y: Tensor, result: Tensor, first: Tensor, second: Tensor, third: Tensor) -> None:
    """The sum over channels as well is one product of matrices whose rows run along columns and channels."""
    right, left = (
        (table.flatten(0, 2) @ operand).unflatten(1, table.shape[:3]).flatten(3)
        for operand, table in ((x, first.transpose(1, 2)), (y, second))
    )
    torch.mm((left @ right.mT).flatten(1), third.flatten(0, 2), out=result[:, :, 0])


def _run(like: Tensor, numbers: int) -> int:
    """Rows of the batch that are computed together, when each has so many numbers in its matrices."""
    size = _CACHED_BYTES * torch.get_num_threads() if like.device.type == "cpu" else _DEVICE_BYTES
    return max(1, size // (like.element_size() * numbers))
