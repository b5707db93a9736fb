"""Learning rate from epoch to epoch."""

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mlip.training.config import CosineSchedule, PlateauSchedule
from mlip.training.module import training_module


class CosineLearningRate(Callback):
    """Half a cosine from the initial learning rate to the minimum over all epochs; no state but the epoch."""

    def __init__(self, config: CosineSchedule, initial: float, epochs: int) -> None:
        self._config, self._initial, self._epochs = config, initial, epochs

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the rate of the epoch that begins."""
        progress = trainer.current_epoch / self._epochs
        minimum = self._config.minimum
        rate = minimum + (self._initial - minimum) * 0.5 * (1 + math.cos(math.pi * progress))
        _set_rate(trainer, rate)


class PlateauLearningRate(Callback):
    """Multiplies the learning rate by a factor when the validation loss has not improved for some epochs.

    Stepped here rather than by Lightning, which updates such a schedule only after the checkpoint is written.
    """

    def __init__(self, config: PlateauSchedule) -> None:
        self._config = config
        self.best = math.inf
        self.waited = 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the validation loss with the best one."""
        loss = training_module(pl_module).metrics["validation_loss"]
        self.best, self.waited = (loss, 0) if loss < self.best else (self.best, self.waited + 1)
        if self.waited > self._config.patience:
            _set_rate(trainer, max(learning_rate(trainer) * self._config.factor, self._config.minimum))
            self.waited = 0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps; the rate itself is in the optimizer's state."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.best, self.waited = state_dict["best"], state_dict["waited"]


def learning_rate(trainer: Trainer) -> float:
    """The present learning rate."""
    return float(trainer.optimizers[0].param_groups[0]["lr"])


def _set_rate(trainer: Trainer, rate: float) -> None:
    for group in trainer.optimizers[0].param_groups:
        group["lr"] = rate
