"""The mixing of channels as torch operations that differentiate into one another.

With `T(g, x, W) = <g, map(x, W)>`, linear in each operand, there are three operations: the map, its transpose, which is
the gradient of T for x, and the outer products, which are that for W. Each one's gradients are calls of the others.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mlip_kernels.channel_mixing.table import Call, MixingTable, RowGroups
from mlip_kernels.wanted import wanted


def fits_vectors(table: MixingTable) -> bool:
    """Whether the channels of all blocks fill whole vectors of this CPU, as `KernelMixing` needs; imports Numba."""
    from mlip_kernels.channel_mixing import cpu

    return cpu.fits_vectors(table)


class KernelMixing(nn.Module):
    """The function of `ReferenceMixing` on the CPU, in float32 or float64, by compiled programs.

    Args:
        table: What is mixed; its channels fill whole vectors.
        grouped: Whether rows come in groups.
    """

    def __init__(self, table: MixingTable, grouped: bool) -> None:
        super().__init__()
        self.table = table
        self.grouped = grouped
        self._programs: dict[torch.dtype, Any] = {}

    def forward(
        self, features: Tensor, weights: Sequence[Tensor], groups: RowGroups | None = None, divisor: float = 1.0
    ) -> Tensor:
        """Mix; arguments and result are those of `ReferenceMixing.forward`, the result divided by a number."""
        call = Call(groups, 1.0 / divisor)
        result: Tensor = _Map.apply(self._program(features.dtype), call, features, *weights)
        return result

    def _program(self, dtype: torch.dtype) -> Any:
        if dtype not in self._programs:
            from mlip_kernels.channel_mixing.cpu import CpuMixing

            self._programs[dtype] = CpuMixing(self.table, dtype, self.grouped)
        return self._programs[dtype]

    def __getstate__(self) -> dict[str, Any]:
        """Compiled programs are not copied, and found anew by a copy."""
        return {**self.__dict__, "_programs": {}}


def _weights_wanted() -> bool:
    return wanted() != "positions"


class _Map(torch.autograd.Function):
    """map(x, W)."""

    @staticmethod
    def forward(ctx: Any, program: Any, call: Call, features: Tensor, *weights: Tensor) -> Tensor:
        ctx.program, ctx.call = program, call
        ctx.save_for_backward(features, *weights)
        result: Tensor = program.map(features, weights, call)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        features, *weights = ctx.saved_tensors
        return None, None, *_both(ctx, features, gradients[0], weights)


class _Transpose(torch.autograd.Function):
    """g W^T, in the layout of x."""

    @staticmethod
    def forward(ctx: Any, program: Any, call: Call, received: Tensor, *weights: Tensor) -> Tensor:
        ctx.program, ctx.call = program, call
        ctx.save_for_backward(received, *weights)
        result: Tensor = program.transpose(received, weights, call)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        received, *weights = ctx.saved_tensors
        of_received = _Map.apply(ctx.program, ctx.call, gradients[0], *weights) if ctx.needs_input_grad[2] else None
        return None, None, of_received, *_outer(ctx, gradients[0], received)


class _Outer(torch.autograd.Function):
    """x^T g, one matrix for each block."""

    @staticmethod
    def forward(ctx: Any, program: Any, call: Call, features: Tensor, received: Tensor) -> tuple[Tensor, ...]:
        ctx.program, ctx.call = program, call
        ctx.save_for_backward(features, received)
        return tuple(program.outer(features, received, call))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        features, received = ctx.saved_tensors
        of_features = _Transpose.apply(ctx.program, ctx.call, received, *gradients)
        of_received = _Map.apply(ctx.program, ctx.call, features, *gradients)
        return None, None, of_features, of_received


def _both(ctx: Any, features: Tensor, received: Tensor, weights: Sequence[Tensor]) -> tuple[Any, ...]:
    """Gradients of the map for features and weights."""
    of_features = None
    if ctx.needs_input_grad[2]:
        of_features = _Transpose.apply(ctx.program, ctx.call, received, *weights)
    return of_features, *_outer(ctx, features, received)


def _outer(ctx: Any, features: Tensor, received: Tensor) -> tuple[Any, ...]:
    """Gradients of the weights, or None for each where they are not wanted."""
    needed = ctx.needs_input_grad[3:]
    if not any(needed) or not _weights_wanted():
        return (None,) * len(needed)
    result: tuple[Any, ...] = _Outer.apply(ctx.program, ctx.call, features, received)
    return result
