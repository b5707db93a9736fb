"""The factorised convolution over short runs of edges, so that what is wide lives in the processor's cache only."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mlip_kernels.edges import EdgeTopology

# Numbers in one array of a run, [edges, points, channels]: 256 KiB in float32, so that a few fit a second-level cache.
_RUN_NUMBERS = 1 << 16


class StreamedFactorisedConvolution(nn.Module):
    """The function of `ReferenceFactorisedConvolution` in memory that grows with atoms and edges, not their product.

    The convolution and the gradients of its filters and weights differentiate into one another, so that every
    derivative is as cheap, and nothing of size edges × points × channels is kept for it.
    """

    def forward(self, values: Tensor, filters: Tensor, weights: Tensor, edges: EdgeTopology) -> Tensor:
        """Convolve; arguments and result are those of `ReferenceFactorisedConvolution.forward`."""
        result: Tensor = _Convolution.apply(values, filters, weights, edges.senders, edges.receivers, edges.num_nodes)
        return result


class _Convolution(torch.autograd.Function):
    """`out[target(e)] += values[source(e)] (filters^T weights)[e]`; its gradient swaps sources and targets."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, filters: Tensor, weights: Tensor, sources: Tensor, targets: Tensor, num_targets: int
    ) -> Tensor:
        ctx.save_for_backward(values, filters, weights, sources, targets)
        output = values.new_zeros(num_targets, *values.shape[1:])
        for run in _runs(len(sources), values):
            messages = torch.bmm(filters[run].transpose(1, 2), weights[run])
            messages *= values.index_select(0, sources[run])
            output.index_add_(0, targets[run], messages)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, filters, weights, sources, targets = ctx.saved_tensors
        (gradient,) = gradients
        of_values = of_filters = of_weights = None
        if ctx.needs_input_grad[0]:
            of_values = _Convolution.apply(gradient, filters, weights, targets, sources, len(values))
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            of_filters, of_weights = _EdgeGradients.apply(gradient, values, filters, weights, targets, sources)
        return of_values, of_filters, of_weights, None, None, None


class _EdgeGradients(torch.autograd.Function):
    """Gradients of `<left, convolution(right, filters, weights)>` with respect to filters and weights.

    With the products p[e] = left[target(e)] right[source(e)] they are `weights p^T` and `filters p`, row by row.
    """

    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor, filters: Tensor, weights: Tensor, targets: Tensor, sources: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(left, right, filters, weights, targets, sources)
        of_filters, of_weights = torch.empty_like(filters), torch.empty_like(weights)
        for run in _runs(len(sources), left):
            products = left.index_select(0, targets[run])
            products *= right.index_select(0, sources[run])
            torch.bmm(weights[run], products.transpose(1, 2), out=of_filters[run])
            torch.bmm(filters[run], products, out=of_weights[run])
        return of_filters, of_weights

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        left, right, filters, weights, targets, sources = ctx.saved_tensors
        of_filters, of_weights = gradients
        # <of_filters, weights p^T> + <of_weights, filters p> is the same trilinear form with twice as many rows.
        both_filters = torch.cat([of_filters, filters], 1)
        both_weights = torch.cat([weights, of_weights], 1)
        of_left = _Convolution.apply(right, both_filters, both_weights, sources, targets, len(left))
        of_right = _Convolution.apply(left, both_filters, both_weights, targets, sources, len(right))
        second_filters, second_weights = _EdgeGradients.apply(left, right, of_filters, of_weights, targets, sources)
        return of_left, of_right, second_filters, second_weights, None, None


def _runs(num_edges: int, values: Tensor) -> Iterator[slice]:
    """Runs of edges whose products fit the cache."""
    length = max(1, _RUN_NUMBERS // max(1, values.shape[1] * values.shape[2]))
    for start in range(0, num_edges, length):
        yield slice(start, start + length)
