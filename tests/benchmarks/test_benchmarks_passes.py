"""The passes compute the derivatives that they say."""

import pytest
import torch

from mlip.benchmarks.passes import PASSES, forward_and_backward, make_step
from mlip.benchmarks.problems import Operands


@pytest.fixture
def operands() -> Operands:
    generator = torch.Generator().manual_seed(0)
    x, y, g = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    return Operands(x, y, None, g)


def product(x, y):
    return x * y


def test_values_of_an_elementwise_product(operands):
    """z = x y: gradients of g·z are (g y, g x), of g y·x' + g x·y' (g y', g x', x' y + x y'); x' = x and y' = y."""
    x, y, _, g = operands
    expected = {
        "forward": (x * y,),
        "backward": (g * y, g * x),
        "double_backward": (g * y, g * x, 2 * x * y),
        "full": (g * y, g * x, 2 * x * y),
    }
    for which in PASSES:
        result = make_step(which, product, operands)()()
        result = result if isinstance(result, tuple) else (result,)
        assert len(result) == len(expected[which])
        for found, wanted in zip(result, expected[which], strict=True):
            torch.testing.assert_close(found, wanted)
    for found, wanted in zip(forward_and_backward(product, operands), expected["backward"], strict=True):
        torch.testing.assert_close(found, wanted)


def test_weights_have_gradients_too(operands):
    weighted = operands._replace(weight=operands.cotangent + 1.0)

    def call(x, y, weight):
        return x * y * weight

    assert len(make_step("backward", call, weighted)()()) == 3
    assert len(make_step("full", call, weighted)()()) == 4


def test_only_what_is_named_is_timed(operands):
    """The forward call of a gradient belongs to the preparation, but for `full`; `forward` records no graph."""
    calls = []

    def call(x, y):
        calls.append(torch.is_grad_enabled())
        return x * y

    timed = {}
    for which in PASSES:
        run = make_step(which, call, operands)()
        before = len(calls)
        run()
        timed[which] = len(calls) - before
    assert timed == {"forward": 1, "backward": 0, "double_backward": 0, "full": 1}
    assert calls == [False, True, True, True]


def test_steps_can_be_repeated(operands):
    for which in PASSES:
        step = make_step(which, product, operands)
        first, second = step()(), step()()
        torch.testing.assert_close(first, second)
