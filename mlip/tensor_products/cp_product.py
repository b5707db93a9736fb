"""The product of a CP decomposition over short runs of rows, so that what is wide lives in the processor's cache only.

The rank exceeds the number of components several times. A product that kept all its rank-one terms would spend its time
on memory; this one holds those of a few rows and computes them anew for derivatives.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mlip_kernels.backends import available_backend
from mlip_kernels.factorised_product.op import product as factorised_product

# Numbers in one array of a run, [rows, rank, channels]: 512 KiB in float32, which a second-level cache holds twice.
_RUN_NUMBERS = 1 << 17
# Kernels run along the channels, most of a vector register being idle where there is only one.
_FEWEST_CHANNELS = 2


def cp_product(x: Tensor, y: Tensor, a: Tensor, b: Tensor, c: Tensor, weight: Tensor | None = None) -> Tensor:
    """Compute `z[n, k, m] = w[n, m] sum over r of c[r, k] (sum_i a[r, i] x[n, i, m]) (sum_j b[r, j] y[n, j, m])`.

    Differentiable with respect to x, y and the weight, any number of times.

    Args:
        x: [rows, d1, channels].
        y: [rows, d2, channels], or with one channel for all of x's.
        a: Constants [rank, d1].
        b: Constants [rank, d2].
        c: Constants [rank, d3].
        weight: w, [rows or 1, 1, channels]; 1 where not given.

    Returns:
        [rows, d3, channels].
    """
    result: Tensor = _Product.apply(x, y, weight, a, b, c, False)
    return result


class _Product(torch.autograd.Function):
    """The product, summed over channels if asked for.

    With g for the gradient of the result, `sum of g z` is the same form whichever of g, x and y is set apart, so that
    the gradients of the operands are products of the same kind, summed where an operand has one channel.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, weight: Tensor | None, a: Tensor, b: Tensor, c: Tensor, summed: bool
    ) -> Tensor:
        ctx.save_for_backward(x, y, weight, a, b, c)
        if max(x.shape[2], y.shape[2]) >= _FEWEST_CHANNELS and available_backend(x.device) != "reference":
            return _by_kernel(x, y, weight, a, b, c, summed)
        if x.shape[2] < y.shape[2]:
            x, y, a, b = y, x, b, a
        rows, _, channels = x.shape
        rank, components = c.shape
        result = x.new_empty(rows, components, 1 if summed else channels)
        of_all_channels = (y[:, :, 0] @ b.T)[:, :, None] if y.shape[2] == 1 else None
        if weight is not None:
            weight = weight.expand(rows, -1, -1)
        for run in _runs(x, rank):
            part = result[run]
            terms = torch.bmm(a.expand(len(part), -1, -1), x[run])
            terms *= torch.bmm(b.expand(len(part), -1, -1), y[run]) if of_all_channels is None else of_all_channels[run]
            if summed:
                if weight is not None:
                    terms *= weight[run]
                torch.mm(terms.sum(2), c, out=part[:, :, 0])
            else:
                torch.bmm(c.T.expand(len(part), -1, -1), terms, out=part)
                if weight is not None:
                    part *= weight[run]
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, y, weight, a, b, c = ctx.saved_tensors
        (gradient,) = gradients
        of_x = of_y = of_weight = None
        if ctx.needs_input_grad[2]:
            unweighted = _Product.apply(gradient, y, None, c, b, a, False)
            of_weight = (unweighted * x).sum(1, keepdim=True).sum_to_size(weight.shape)
            if ctx.needs_input_grad[0]:
                of_x = (unweighted * weight).sum_to_size(x.shape)
        elif ctx.needs_input_grad[0]:
            of_x = _Product.apply(gradient, y, weight, c, b, a, x.shape[2] < max(gradient.shape[2], y.shape[2]))
        if ctx.needs_input_grad[1]:
            of_y = _Product.apply(gradient, x, weight, c, a, b, y.shape[2] < max(gradient.shape[2], x.shape[2]))
        return of_x, of_y, of_weight, None, None, None, None


def _by_kernel(x: Tensor, y: Tensor, weight: Tensor | None, a: Tensor, b: Tensor, c: Tensor, summed: bool) -> Tensor:
    """The product by the kernel of `mlip_kernels`; the weight goes to one operand, or to the result if that is less."""
    if weight is None:
        return factorised_product(x, y, a, b, c, summed)
    if summed:
        wide, other = (x, y) if x.shape[2] >= y.shape[2] else (y, x)
        first, second = (a, b) if wide is x else (b, a)
        return factorised_product(wide * weight, other, first, second, c, True)
    return factorised_product(x, y, a, b, c, False) * weight


def _runs(x: Tensor, rank: int) -> Iterator[slice]:
    """Runs of rows whose terms fit the cache; all rows at once on a device that hides memory behind many threads."""
    length = max(1, len(x) if x.is_cuda else _RUN_NUMBERS // (rank * x.shape[2]))
    for start in range(0, len(x), length):
        yield slice(start, start + length)
