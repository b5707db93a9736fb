"""The factorised convolution as torch operations.

It is linear in values, filters and weights. Its gradient with respect to the values is the same convolution, sources
and targets exchanged; it and the gradients of filters and weights differentiate into one another.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mlip_kernels.backends import kernels
from mlip_kernels.edges import EdgeTopology


class KernelFactorisedConvolution(nn.Module):
    """The function of `ReferenceFactorisedConvolution`, compiled for a CPU, by Triton on a GPU."""

    def forward(self, values: Tensor, filters: Tensor, weights: Tensor, edges: EdgeTopology) -> Tensor:
        """Convolve; arguments and result are those of `ReferenceFactorisedConvolution.forward`."""
        result: Tensor = convolve(values, filters, weights, edges.senders, edges.receivers, edges.num_nodes)
        return result


@torch.library.custom_op("mlip_kernels::factorised_convolution", mutates_args=(), device_types=("cpu", "cuda"))
def convolve(
    values: Tensor, filters: Tensor, weights: Tensor, sources: Tensor, targets: Tensor, num_targets: int
) -> Tensor:
    """Sum messages from sources into targets, in any order of edges, [targets, points, channels]."""
    # Equal keys keep their order, so that sums are always taken in the same one.
    ordered, order = targets.sort(stable=True)
    starts = torch.searchsorted(ordered, torch.arange(num_targets + 1, device=targets.device))
    of_device = kernels("factorised_convolution", values.device)
    result: Tensor = of_device.convolve(values, filters, weights, sources, order, starts)
    return result


@torch.library.custom_op("mlip_kernels::factorised_edge_gradients", mutates_args=(), device_types=("cpu", "cuda"))
def edge_gradients(
    received: Tensor, values: Tensor, filters: Tensor, weights: Tensor, sources: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of `<received, convolve>` with respect to filters and weights."""
    of_device = kernels("factorised_convolution", values.device)
    result: tuple[Tensor, Tensor] = of_device.edge_gradients(received, values, filters, weights, sources, targets)
    return result


@convolve.register_fake
def _(values: Tensor, filters: Tensor, weights: Tensor, sources: Tensor, targets: Tensor, num_targets: int) -> Tensor:
    return values.new_empty(num_targets, values.shape[1], values.shape[2])


@edge_gradients.register_fake
def _(
    received: Tensor, values: Tensor, filters: Tensor, weights: Tensor, sources: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    return filters.new_empty(filters.shape), weights.new_empty(weights.shape)


def _keep_convolve(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])


def _differentiate_convolve(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    values, filters, weights, sources, targets = ctx.saved_tensors
    of_values = of_filters = of_weights = None
    if ctx.needs_input_grad[0]:
        of_values = convolve(gradient, filters, weights, targets, sources, values.shape[0])
    if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
        of_filters, of_weights = edge_gradients(gradient, values, filters, weights, sources, targets)
    return of_values, of_filters, of_weights, None, None, None


def _keep_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate_gradients(ctx: Any, of_filters: Tensor, of_weights: Tensor) -> tuple[Tensor | None, ...]:
    received, values, filters, weights, sources, targets = ctx.saved_tensors
    # Both inner products are the convolution's form again, with twice as many rows.
    both_filters = torch.cat([of_filters, filters], 1)
    both_weights = torch.cat([weights, of_weights], 1)
    of_received = of_values = second_filters = second_weights = None
    if ctx.needs_input_grad[0]:
        of_received = convolve(values, both_filters, both_weights, sources, targets, received.shape[0])
    if ctx.needs_input_grad[1]:
        of_values = convolve(received, both_filters, both_weights, targets, sources, values.shape[0])
    if ctx.needs_input_grad[2] or ctx.needs_input_grad[3]:
        second_filters, second_weights = edge_gradients(received, values, of_filters, of_weights, sources, targets)
    return of_received, of_values, second_filters, second_weights, None, None


convolve.register_autograd(_differentiate_convolve, setup_context=_keep_convolve)
edge_gradients.register_autograd(_differentiate_gradients, setup_context=_keep_gradients)
