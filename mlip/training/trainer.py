"""Lightning's trainer as this package uses it: one device or torchrun's processes, and quiet on the console."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy

from mlip.errors import ConfigError
from mlip.training.checkpoints import AtomicCheckpointIO
from mlip.training.config import TrainingConfig


@dataclass(frozen=True)
class Process:
    """This process among those that torchrun has started."""

    rank: int
    world_size: int
    local_world_size: int

    @classmethod
    def from_environment(cls) -> Self:
        """As torchrun says; one process alone otherwise."""
        defaults = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
        return cls(*(int(os.environ.get(name, default)) for name, default in defaults.items()))


def choose_device(config: TrainingConfig) -> str:
    """ "cpu" or "cuda". Raises ConfigError if there is no GPU though one is asked for."""
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise ConfigError("device is cuda, but PyTorch finds no GPU here; set device=cpu or device=auto")
    return "cpu" if config.device == "cpu" or not available else "cuda"


def build_trainer(config: TrainingConfig, process: Process, folder: Path, callbacks: list[Callback]) -> Trainer:
    """A trainer that calls the callbacks in their order. Raises ConfigError as `choose_device` does."""
    return Trainer(
        accelerator="gpu" if choose_device(config) == "cuda" else "cpu",
        devices=process.local_world_size,
        num_nodes=process.world_size // process.local_world_size,
        strategy=DDPStrategy() if process.world_size > 1 else "auto",
        max_epochs=config.epochs,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=folder,
        inference_mode=False,  # Forces are gradients, in validation too.
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # Our sampler deals out the shares.
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silences what Lightning says about itself: its banners and tips, and advice that does not apply here."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in (
                ".*does not have many workers.*",  # Graphs are in memory; workers would only slow their way.
                ".*LeafSpec.*is deprecated.*",  # Lightning's own use of torch.
            ):
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
