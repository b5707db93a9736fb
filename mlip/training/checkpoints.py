"""Checkpoints to resume from: how they are written, what they say about themselves, and which are refused."""

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mlip._version import __version__
from mlip.data.files import written_beside
from mlip.errors import FileMissingError, ModelFileError
from mlip.training.config import TrainingConfig

# Raised whenever a checkpoint of an earlier version could no longer be continued exactly.
CHECKPOINT_FORMAT = 2
# What may differ between the run that wrote a checkpoint and the one that continues it.
_FREE_KEYS = {"epochs", "patience", "device", "output"}


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints beside the old one and renames them, so that there is always a whole one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; an error such as a full disk leaves the old one there."""
        # torch would turn the system's error into one of its own, which no longer says that the disk is full.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with written_beside(Path(path)) as partial:
            partial.write_bytes(buffer.getbuffer())


class LastCheckpoint(Callback):
    """Saves `last.ckpt` after every epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; this callback comes after all that have a state of their own."""
        trainer.save_checkpoint(self.path)


def identity_of(config: TrainingConfig, frames: tuple[int, int]) -> dict[str, Any]:
    """What a checkpoint says of itself: format, version, configuration, and numbers of training and validation frames.

    The configuration is the one in which everything that depends on the data has been filled in.
    """
    return {
        "format": CHECKPOINT_FORMAT,
        "version": __version__,
        "config": config.model_dump(mode="json"),
        "frames": list(frames),
    }


def resumed_config(path: Path, config: TrainingConfig, frames: tuple[int, int]) -> TrainingConfig:
    """The configuration with which a run goes on from a checkpoint: the given one, completed by the checkpoint's.

    Args:
        path: the checkpoint.
        config: what the user wants; hyper-parameters of the model that are not set are those of the checkpoint.
        frames: numbers of training and validation frames.

    Raises:
        FileMissingError: there is no checkpoint.
        ModelFileError: the file is damaged or no checkpoint of ours, of another format, or of another configuration.
    """
    if not path.is_file():
        raise FileMissingError(f"there is no checkpoint '{path}' to resume from; start without --resume")
    try:
        identity = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["mlip"]
        written_format, version = identity["format"], identity["version"]
    except (RuntimeError, EOFError, OSError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise ModelFileError(
            f"'{path}' is damaged or no checkpoint of mlip train; start the run again with --overwrite"
        ) from error
    if written_format != CHECKPOINT_FORMAT:
        raise ModelFileError(
            f"'{path}' was written by mlip {version} in checkpoint format {written_format}, while mlip {__version__} "
            f"reads format {CHECKPOINT_FORMAT}; resume with that version, or start the run again with --overwrite"
        )
    given = config.model_dump(mode="json")
    unset = set(given["model"]) - config.model.model_fields_set
    given["model"] |= {key: value for key, value in identity["config"]["model"].items() if key in unset}
    before = {"frames": identity["frames"], **identity["config"]}
    difference = _first_difference(before, {"frames": list(frames), **given})
    if difference:
        raise ModelFileError(
            f"'{path}' was written with {difference}; undo the change, or train into another folder with output=..."
        )
    return TrainingConfig.model_validate(given)


def _first_difference(old: Any, new: Any, name: str = "") -> str | None:
    """The first key whose value differs, in words; None if all are the same."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if name or key not in _FREE_KEYS:
                found = _first_difference(old.get(key), new.get(key), f"{name}.{key}" if name else key)
                if found:
                    return found
        return None
    return None if old == new else f"{name}={old}, which is now {new}"
