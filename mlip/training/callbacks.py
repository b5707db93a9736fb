"""What happens around the training steps: stops on NaN, Ctrl-C and lost patience, and the best model."""

import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mlip.errors import TrainingError
from mlip.training.module import TrainingModule, training_module

# Asking a GPU for a number makes it wait, so there the loss is looked at only now and then.
_CHECK_INTERVAL_GPU = 50


class NotANumberGuard(Callback):
    """Ends a run whose loss or gradient is no longer finite, and names the frames of the batch where that was seen.

    Args:
        describe: turns the index of an epoch and of a batch in it into words on the frames of that batch.
    """

    def __init__(self, describe: Callable[[int, int], str]) -> None:
        self._describe = describe
        self._unseen: list[tuple[int, int, Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Look at the loss and the gradient of the batch."""
        module = training_module(pl_module)
        self._unseen.append((module.epoch_index, module.batches_done - 1, module.health))
        if module.device.type == "cpu" or len(self._unseen) == _CHECK_INTERVAL_GPU:
            self._check()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at what has not been looked at yet, and at the validation loss."""
        self._check()
        module = training_module(pl_module)
        loss = module.metrics["validation_loss"]
        if not math.isfinite(loss):
            raise TrainingError(
                f"the validation loss became {loss} in epoch {module.epoch_index}; lower optimizer.learning_rate"
            )

    def _check(self) -> None:
        unseen, self._unseen = self._unseen, []
        for epoch, batch, health in unseen:
            if not math.isfinite(value := float(health)):
                raise TrainingError(
                    f"the loss or its gradient became {value} in epoch {epoch + 1}, batch {batch + 1}, which holds "
                    f"{self._describe(epoch, batch)}; look at these frames, or lower optimizer.learning_rate"
                )


class BestModel(Callback):
    """Saves the model whenever the validation loss is lower than ever, and ends the run when patience is lost.

    Args:
        save: writes the model; is given the epoch and the loss.
        patience: epochs without an improvement after which the run ends.
    """

    def __init__(self, save: Callable[[int, float], None], patience: int) -> None:
        self._save, self._patience = save, patience
        self.loss, self.epoch, self.waited = math.inf, 0, 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the validation loss with the best one."""
        module = training_module(pl_module)
        epoch, loss = module.epoch_index, module.metrics["validation_loss"]
        self.waited += 1
        if loss < self.loss:
            self.loss, self.epoch, self.waited = loss, epoch, 0
            self._save(epoch, loss)
        trainer.should_stop = self.waited >= self._patience

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do not go on with a run that had lost its patience before it was resumed."""
        trainer.should_stop = self.waited >= self._patience

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"loss": self.loss, "epoch": self.epoch, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.loss, self.epoch, self.waited = state_dict["loss"], state_dict["epoch"], state_dict["waited"]


class Stopped(BaseException):
    """Leaves Lightning's loops after Ctrl-C; no KeyboardInterrupt, on which Lightning would end the process itself."""


class Interruption(Callback):
    """Ends the run after the batch during which Ctrl-C was pressed, with a checkpoint from which it goes on exactly."""

    def __init__(self, checkpoint: Path) -> None:
        self._checkpoint = checkpoint

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Stop within an epoch; after its last batch, leave that to the end of the epoch."""
        if training_module(pl_module).stopping and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            trainer.save_checkpoint(self._checkpoint)
            raise Stopped

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at the end of an epoch, whose checkpoint has just been written."""
        if training_module(pl_module).stopping:
            raise Stopped


@contextmanager
def graceful_interrupt(module: TrainingModule) -> Iterator[None]:
    """Within this context Ctrl-C asks the run to stop after the present batch; a second one stops it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread may set signal handlers.
        return

    def request_stop(*_: Any) -> None:
        if module.stop_requested:
            raise Stopped
        module.stop_requested = True
        print("Stopping after this batch; press Ctrl-C again to stop at once.", file=sys.stderr)  # noqa: T201

    previous = signal.signal(signal.SIGINT, request_stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
