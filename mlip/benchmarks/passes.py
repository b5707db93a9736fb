"""What is timed of a product: forward, backward, double backward, and all three at one go."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from mlip.benchmarks.problems import Operands
from mlip.benchmarks.timing import Step

Pass = Literal["forward", "backward", "double_backward", "full"]
PASSES: tuple[Pass, ...] = get_args(Pass)


def make_step(which: Pass, call: Callable[..., Tensor], operands: Operands) -> Step:
    """A pass of a product with operands of its own form.

    `forward` records no graph. `backward` is the gradient with respect to every argument, the graph given.
    `double_backward` is the gradient of these gradients with respect to all arguments and the cotangent, the graph
    given. `full` is all of it, recording included, as training on forces does.
    """
    arguments = operands.arguments

    def leaves() -> list[Tensor]:
        return [each.detach().requires_grad_() for each in arguments]

    def first_gradients(inputs: list[Tensor], cotangent: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(call(*inputs), inputs, cotangent, create_graph=True)

    def forward() -> Tensor:
        with torch.no_grad():
            return call(*arguments)

    def full() -> tuple[Tensor, ...]:
        inputs, cotangent = leaves(), operands.cotangent.detach().requires_grad_()
        first = first_gradients(inputs, cotangent)
        return torch.autograd.grad(first, [*inputs, cotangent], arguments)

    def prepare_backward() -> Callable[[], Any]:
        inputs = leaves()
        result = call(*inputs)
        return lambda: torch.autograd.grad(result, inputs, operands.cotangent)

    def prepare_double_backward() -> Callable[[], Any]:
        inputs, cotangent = leaves(), operands.cotangent.detach().requires_grad_()
        first = first_gradients(inputs, cotangent)
        # Cotangents of the gradients have the shapes of the arguments; their values do not matter to the time.
        return lambda: torch.autograd.grad(first, [*inputs, cotangent], arguments)

    steps: dict[Pass, Step] = {
        "forward": lambda: forward,
        "backward": prepare_backward,
        "double_backward": prepare_double_backward,
        "full": lambda: full,
    }
    return steps[which]


def forward_and_backward(call: Callable[..., Tensor], operands: Operands) -> tuple[Tensor, ...]:
    """Gradients with respect to every argument, from a forward call that records its graph."""
    inputs = [each.detach().requires_grad_() for each in operands.arguments]
    return torch.autograd.grad(call(*inputs), inputs, operands.cotangent)
