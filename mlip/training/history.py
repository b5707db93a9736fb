"""The record of a run: one line per epoch on the console, metrics.csv, and TensorBoard where it is installed."""

import csv
import importlib.util
import time
import warnings
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mlip.data.files import written_beside
from mlip.training.module import training_module
from mlip.training.output import RunFolder
from mlip.training.schedule import learning_rate

# Title, name in the metrics, factor from eV and Å to what is shown, width and format.
_COLUMNS = [
    ("epoch", "epoch", 1, "5.0f"),
    ("train loss", "train_loss", 1, "10.3e"),
    ("val. loss", "validation_loss", 1, "9.3e"),
    ("E meV/atom", "energy_per_atom_rmse", 1000, "10.3f"),
    ("F meV/Å", "forces_rmse", 1000, "8.2f"),
    ("S meV/Å³", "stress_rmse", 1000, "8.3f"),
    ("q me", "charges_rmse", 1000, "7.2f"),
    ("p me Å", "dipole_rmse", 1000, "7.2f"),
    ("Q me", "total_charge_rmse", 1000, "7.2f"),
    ("rate", "learning_rate", 1, "7.1e"),
    ("s", "seconds", 1, "6.1f"),
]


class History(Callback):
    """Keeps a row of numbers per epoch, writes all rows to metrics.csv and prints the latest one.

    The first process alone writes and prints. Rows are part of the checkpoint, so that a resumed run continues the
    table from where the checkpoint was taken.
    """

    def __init__(self, folder: RunFolder, console: Console) -> None:
        self.rows: list[dict[str, float]] = []
        self._folder, self._console = folder, console
        self._best_loss = float("inf")
        self._started = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the head of the table."""
        self._started = time.perf_counter()
        self._writer = self._tensorboard() if trainer.is_global_zero else None
        module = training_module(pl_module)
        shown = {"energy_per_atom_rmse", *(f"{name}_rmse" for name in module.predicted)}
        self._columns = [column for column in _COLUMNS if not column[1].endswith("_rmse") or column[1] in shown]
        # A title is as wide as a number in its column.
        titles = (f"{title:>{len(format(0.0, form))}}" for title, *_, form in self._columns)
        self._console.print("  ".join(titles), style="bold", soft_wrap=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the row of the epoch."""
        if not trainer.is_global_zero:
            return
        module = training_module(pl_module)
        now = time.perf_counter()
        seconds, self._started = now - self._started, now
        row = {
            "epoch": module.epoch_index,
            "learning_rate": learning_rate(trainer),
            "seconds": seconds,
        } | module.metrics
        self.rows.append(row)
        self._write_csv()
        if self._writer is not None:
            for name, value in module.metrics.items():
                self._writer.add_scalar(name, value, module.epoch_index)
        best = row["validation_loss"] < self._best_loss
        self._best_loss = min(self._best_loss, row["validation_loss"])
        cells = (format(row[name] * factor, form) for _, name, factor, form in self._columns)
        self._console.print("  ".join(cells) + "  best" * best, soft_wrap=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the TensorBoard file."""
        if self._writer is not None:
            self._writer.close()

    def _write_csv(self) -> None:
        with written_beside(self._folder.metrics) as partial, partial.open("w", newline="") as file:
            table = csv.DictWriter(file, fieldnames=list(self.rows[0]))
            table.writeheader()
            table.writerows(self.rows)

    def _tensorboard(self) -> Any:
        if importlib.util.find_spec("tensorboard") is None:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Of tensorboard's own imports.
            from torch.utils.tensorboard import SummaryWriter
        return SummaryWriter(str(self._folder.tensorboard))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.rows = state_dict["rows"]
        self._best_loss = min((row["validation_loss"] for row in self.rows), default=float("inf"))


class BatchBar(Callback):
    """A bar over the batches of the present epoch, on a terminal only; it vanishes with the epoch."""

    def __init__(self, console: Console, frames: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        # Few refreshes, since drawing takes time from training.
        self._progress = Progress(*columns, console=console, transient=True, refresh_per_second=2)
        self._task = self._progress.add_task("", total=frames)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start anew."""
        self._progress.reset(self._task, description=f"epoch {trainer.current_epoch + 1}")
        self._progress.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count the frames of a batch, in all processes."""
        self._progress.advance(self._task, batch.num_graphs * trainer.world_size)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make room for the line of the epoch."""
        self._progress.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()
