"""Exponential moving average of the weights: what is validated and saved as the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class ExponentialMovingAverage(Callback):
    """Keeps average = d · average + (1 − d) · weights, updated after every optimizer step.

    d is the decay, but at most (1 + n) / (10 + n) after n steps, so that the weights the run began with are soon
    forgotten. Only parameters are averaged; buffers are constants in all models. Averaged weights take the place of
    the current ones during validation and inside `averaged`.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self._average: list[Tensor] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the present weights, or bring a restored average to the device."""
        if self._average:
            self._average = [tensor.to(pl_module.device) for tensor in self._average]
        else:
            self._average = [parameter.detach().clone() for parameter in pl_module.parameters()]

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Move the average towards the weights."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._average, list(pl_module.parameters()), 1 - decay)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average."""
        self._exchange(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on training the current weights."""
        self._exchange(pl_module)

    @contextmanager
    def averaged(self, module: LightningModule) -> Iterator[None]:
        """The module holds the averaged weights inside this context."""
        self._exchange(module)
        try:
            yield
        finally:
            self._exchange(module)

    @torch.no_grad()
    def _exchange(self, module: LightningModule) -> None:
        for average, parameter in zip(self._average, module.parameters(), strict=True):
            current = parameter.clone()
            parameter.copy_(average)
            average.copy_(current)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"steps": self.steps, "average": self._average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.steps, self._average = state_dict["steps"], state_dict["average"]
