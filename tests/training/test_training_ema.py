"""The moving average against its recursion, written out."""

from typing import Any

import torch
from lightning.pytorch import LightningModule

from mlip.training.ema import ExponentialMovingAverage


class Weights(LightningModule):
    """A module with two parameters and a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        self.b = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
        self.register_buffer("constant", torch.tensor(3.0))


TRAINER: Any = None  # The callback makes no use of it.


def train_weights(decay: float, steps: int) -> tuple[Weights, ExponentialMovingAverage, list[list[float]]]:
    module, average = Weights(), ExponentialMovingAverage(decay)
    average.on_fit_start(TRAINER, module)
    trajectory = [[*module.a.tolist(), module.b.item()]]
    for step in range(steps):
        with torch.no_grad():
            module.a += 0.1 * (step + 1)
            module.b *= -1.1
        average.on_train_batch_end(TRAINER, module)
        trajectory.append([*module.a.tolist(), module.b.item()])
    return module, average, trajectory


def test_average_follows_its_recursion() -> None:
    decay = 0.8
    module, average, trajectory = train_weights(decay, 60)
    expected = trajectory[0]
    for n, weights in enumerate(trajectory[1:], start=1):
        d = min(decay, (1 + n) / (10 + n))
        expected = [d * old + (1 - d) * new for old, new in zip(expected, weights, strict=True)]
    with average.averaged(module):
        averaged = [*module.a.tolist(), module.b.item()]
    torch.testing.assert_close(torch.tensor(averaged), torch.tensor(expected), rtol=1e-12, atol=0)


def test_weights_come_back_to_the_bit() -> None:
    module, average, trajectory = train_weights(0.9, 7)
    average.on_validation_start(TRAINER, module)
    assert [*module.a.tolist(), module.b.item()] != trajectory[-1]
    average.on_validation_end(TRAINER, module)
    assert [*module.a.tolist(), module.b.item()] == trajectory[-1]
    assert module.constant.item() == 3.0


def test_state_continues_exactly() -> None:
    module, average, _ = train_weights(0.9, 5)
    other = ExponentialMovingAverage(0.9)
    other.load_state_dict({"steps": average.steps, "average": [t.clone() for t in average.state_dict()["average"]]})
    other.on_fit_start(TRAINER, module)
    with torch.no_grad():
        module.a += 1.0
    average.on_train_batch_end(TRAINER, module)
    other.on_train_batch_end(TRAINER, module)
    for first, second in zip(average.state_dict()["average"], other.state_dict()["average"], strict=True):
        assert torch.equal(first, second)
