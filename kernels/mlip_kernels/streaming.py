"""Convolutions over short runs of edges, so that what is wide lives in the processor's cache only.

A convolution is linear in each of three operands: the features of the senders, what an edge's filter has in common for
all channels, and the weights of its rows. It and the gradients of filters and weights differentiate into one another.
Every derivative is therefore as cheap as the convolution, and nothing of size edges × channels × components is kept.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from mlip_kernels.edges import EdgeTopology

# Numbers in the widest array of a run: 512 KiB in float32, so that a few fit a second-level cache.
_RUN_NUMBERS = 1 << 17


class Messages(Protocol):
    """What an edge sends, for edges in the first axis of every operand."""

    def numbers(self, filters: Tensor, weights: Tensor, sent: Tensor) -> int:
        """Numbers in the widest array for one edge."""
        ...

    def shape(self, filters: Tensor, sent: Tensor) -> tuple[int, ...]:
        """Shape of an edge's message."""
        ...

    def messages(self, filters: Tensor, weights: Tensor, sent: Tensor) -> Tensor:
        """Messages [edges, ...], linear in filters and weights, [edges, rows, ...], and in the features sent."""
        ...

    def gradients(self, filters: Tensor, weights: Tensor, sent: Tensor, received: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of `<received, messages>` with respect to filters and weights."""
        ...

    def transposed(self, filters: Tensor) -> Tensor:
        """Filters with which the message of `received` is the gradient with respect to the features sent."""
        ...


def convolve(kind: Messages, features: Tensor, filters: Tensor, weights: Tensor, edges: EdgeTopology) -> Tensor:
    """Sum the messages of a kind into the receivers of the edges, [nodes, ...]."""
    result: Tensor = _Convolution.apply(
        kind, features, filters, weights, edges.senders, edges.receivers, edges.num_nodes
    )
    return result


class _Convolution(torch.autograd.Function):
    """Sums messages from sources into targets, which change places in the gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        kind: Messages,
        features: Tensor,
        filters: Tensor,
        weights: Tensor,
        sources: Tensor,
        targets: Tensor,
        num_targets: int,
    ) -> Tensor:
        ctx.kind = kind
        ctx.save_for_backward(features, filters, weights, sources, targets)
        output = features.new_zeros(num_targets, *kind.shape(filters, features))
        for run in _runs(len(sources), kind.numbers(filters, weights, features)):
            sent = features.index_select(0, sources[run])
            output.index_add_(0, targets[run], kind.messages(filters[run], weights[run], sent))
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, filters, weights, sources, targets = ctx.saved_tensors
        of_features = of_filters = of_weights = None
        if ctx.needs_input_grad[1]:
            transposed = ctx.kind.transposed(filters)
            of_features = _Convolution.apply(
                ctx.kind, gradients[0], transposed, weights, targets, sources, len(features)
            )
        if ctx.needs_input_grad[2] or ctx.needs_input_grad[3]:
            of_filters, of_weights = _EdgeGradients.apply(
                ctx.kind, gradients[0], features, filters, weights, sources, targets
            )
        return None, of_features, of_filters, of_weights, None, None, None


class _EdgeGradients(torch.autograd.Function):
    """Gradients of `<received, convolution>` with respect to filters and weights, edge by edge."""

    @staticmethod
    def forward(
        ctx: Any,
        kind: Messages,
        received: Tensor,
        features: Tensor,
        filters: Tensor,
        weights: Tensor,
        sources: Tensor,
        targets: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.kind = kind
        ctx.save_for_backward(received, features, filters, weights, sources, targets)
        of_filters, of_weights = torch.empty_like(filters), torch.empty_like(weights)
        for run in _runs(len(sources), kind.numbers(filters, weights, features)):
            of_filters[run], of_weights[run] = kind.gradients(
                filters[run],
                weights[run],
                features.index_select(0, sources[run]),
                received.index_select(0, targets[run]),
            )
        return of_filters, of_weights

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        received, features, filters, weights, sources, targets = ctx.saved_tensors
        of_filters, of_weights = gradients
        # Both inner products are the convolution's form again, with twice as many rows.
        both_filters = torch.cat([of_filters, filters], 1)
        both_weights = torch.cat([weights, of_weights], 1)
        of_received = _Convolution.apply(
            ctx.kind, features, both_filters, both_weights, sources, targets, len(received)
        )
        transposed = ctx.kind.transposed(both_filters)
        of_features = _Convolution.apply(ctx.kind, received, transposed, both_weights, targets, sources, len(features))
        second_filters, second_weights = _EdgeGradients.apply(
            ctx.kind, received, features, of_filters, of_weights, sources, targets
        )
        return None, of_received, of_features, second_filters, second_weights, None, None


def _runs(num_edges: int, numbers: int) -> Iterator[slice]:
    """Runs of edges whose arrays fit the cache."""
    length = max(1, _RUN_NUMBERS // max(1, numbers))
    for start in range(0, num_edges, length):
        yield slice(start, start + length)
