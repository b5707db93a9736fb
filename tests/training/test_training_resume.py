"""Stopping and going on: bit for bit, and never with a damaged or foreign checkpoint."""

import errno
import io
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from rich.console import Console

from mlip.errors import FileMissingError, ModelFileError
from mlip.models import load
from mlip.training import checkpoints, run
from mlip.training.callbacks import Interruption
from mlip.training.checkpoints import AtomicCheckpointIO
from mlip.training.config import TrainingConfig
from mlip.training.run import Interrupted, train

Config = Callable[..., TrainingConfig]

pytestmark = pytest.mark.usefixtures("no_report")


def quiet_train(config: TrainingConfig, **options: Any) -> None:
    train(config, console=Console(file=io.StringIO()), **options)


def assert_same(first: Any, second: Any, where: str = "") -> None:
    """Both hold the same numbers to the bit, wall times and the output folder aside."""
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first.keys() - {"seconds", "output"}:
            assert_same(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for i, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{where}[{i}]")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second, where


def assert_same_run(first: Path, second: Path) -> None:
    """Both folders hold the same checkpoint and the same model."""
    states = [torch.load(folder / "last.ckpt", weights_only=True) for folder in (first, second)]
    assert_same(*states)
    models = [load(folder / "model.mlip") for folder in (first, second)]
    assert_same(*(dict(model.state_dict()) for model in models))
    assert models[0].provenance["epoch"] == models[1].provenance["epoch"]
    assert not list(second.glob("*.partial"))


class CtrlC(Callback):
    """Presses Ctrl-C once, after a number of batches."""

    def __init__(self, batches: int) -> None:
        self._left = batches

    def on_train_batch_end(self, *_: Any) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def press_ctrl_c(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    original = run.build_trainer

    def build(config: TrainingConfig, process: Any, folder: Path, callbacks: list[Callback]) -> Trainer:
        return original(config, process, folder, [CtrlC(batches), *callbacks])

    monkeypatch.setattr(run, "build_trainer", build)


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": {"kind": "plateau", "patience": 1, "factor": 0.5}},
        {"schedule": {"kind": "cosine"}, "dtype": "float64", "loss": {"stages": [{"epoch": 3, "energy": 30.0}]}},
        {"ema": None, "optimizer": {"amsgrad": False, "gradient_clip": None}},
    ],
    ids=["plateau", "cosine-float64-stages", "no-ema"],
)
@pytest.mark.parametrize("batches", [2, 3, 7, 10])
def test_interrupted_and_resumed_run_equals_an_uninterrupted_one(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], batches: int
) -> None:
    """Ctrl-C early and late within epochs and after the last batch of one; an epoch has three batches or so."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    quiet_train(config(epochs=4, output=str(whole), **changes))
    with monkeypatch.context() as patch:
        press_ctrl_c(patch, batches)
        with pytest.raises(Interrupted) as interruption:
            quiet_train(config(epochs=4, output=str(parts), **changes))
    assert interruption.value.checkpoint == parts / "last.ckpt"
    quiet_train(config(epochs=4, output=str(parts), **changes), resume=True)
    assert_same_run(whole, parts)


def test_killed_run_goes_on_from_its_last_epoch(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies in the middle of an epoch loses that epoch and nothing else."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    quiet_train(config(epochs=4, output=str(whole)))
    original = Interruption.on_train_batch_end

    def die(self: Interruption, trainer: Trainer, module: Any, *rest: Any) -> None:
        original(self, trainer, module, *rest)
        if trainer.current_epoch == 2 and module.batches_done == 2:
            raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "on_train_batch_end", die)
        with pytest.raises(MemoryError):
            quiet_train(config(epochs=4, output=str(parts)))
    quiet_train(config(epochs=4, output=str(parts)), resume=True)
    assert_same_run(whole, parts)


def test_more_epochs_can_be_asked_for(config: Config, tmp_path: Path) -> None:
    quiet_train(config(epochs=4, output=str(tmp_path / "whole")))
    quiet_train(config(epochs=2, output=str(tmp_path / "parts")))
    quiet_train(config(epochs=4, output=str(tmp_path / "parts")), resume=True)
    first, second = (torch.load(tmp_path / n / "last.ckpt", weights_only=True) for n in ("whole", "parts"))
    assert_same(first["state_dict"], second["state_dict"])
    assert_same(first["optimizer_states"], second["optimizer_states"])
    assert_same(first["callbacks"], second["callbacks"])


def test_finished_run_resumes_to_nothing(config: Config) -> None:
    quiet_train(config(epochs=2))
    before = (Path(config().output) / "last.ckpt").read_bytes()
    quiet_train(config(epochs=2), resume=True)
    assert (Path(config().output) / "last.ckpt").read_bytes() == before


def test_run_without_patience_left_stays_finished(config: Config) -> None:
    changes = {"ema": None, "optimizer": {"learning_rate": 1e-30}}
    quiet_train(config(epochs=50, patience=2, **changes))
    before = (Path(config().output) / "last.ckpt").read_bytes()
    quiet_train(config(epochs=50, patience=2, **changes), resume=True)
    assert (Path(config().output) / "last.ckpt").read_bytes() == before


def test_resolved_configuration_resumes_too(config: Config) -> None:
    from mlip.training.config import load_config

    quiet_train(config(epochs=1))
    quiet_train(load_config(Path(config().output, "config.yaml"), ["epochs=2"]), resume=True)
    rows = Path(config().output, "metrics.csv").read_text().splitlines()
    assert len(rows) == 3


def test_checkpoint_of_another_configuration_is_refused(config: Config, frames_file: Path) -> None:
    quiet_train(config(epochs=1))
    with pytest.raises(ModelFileError, match=r"optimizer.learning_rate=0.01, which is now 0.02"):
        quiet_train(config(epochs=2, optimizer={"learning_rate": 0.02}), resume=True)
    with pytest.raises(ModelFileError, match=r"model.hidden_irreps"):
        quiet_train(config(epochs=2, model={"hidden_irreps": "8x0e"}), resume=True)


def test_checkpoint_of_other_data_is_refused(config: Config, frames_file: Path) -> None:
    quiet_train(config(epochs=1))
    text = frames_file.read_text()
    path = Path(config().output).with_name(frames_file.name)
    path.write_text(text + text)
    quiet_train(config(epochs=1, output=config().output + "-b", data={"train": str(path)}))
    path.write_text(text)
    with pytest.raises(ModelFileError, match="frames"):
        quiet_train(config(epochs=2, output=config().output + "-b", data={"train": str(path)}), resume=True)


def test_checkpoint_of_another_format_is_refused(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "CHECKPOINT_FORMAT", 0)
        patch.setattr(checkpoints, "__version__", "0.0.7")
        quiet_train(config(epochs=1))
    with pytest.raises(ModelFileError, match=r"mlip 0\.0\.7 in checkpoint format 0"):
        quiet_train(config(epochs=2), resume=True)


def test_checkpoint_with_other_weights_is_refused(config: Config) -> None:
    quiet_train(config(epochs=1))
    path = Path(config().output) / "last.ckpt"
    state = torch.load(path, weights_only=True)
    name = next(name for name in state["state_dict"] if "network" in name)
    state["state_dict"]["renamed"] = state["state_dict"].pop(name)
    torch.save(state, path)
    with pytest.raises(ModelFileError, match="other weights"):
        quiet_train(config(epochs=2), resume=True)


@pytest.mark.parametrize("damage", ["truncate", "text", "empty", "foreign", "pickle"])
def test_damaged_checkpoint_is_refused(config: Config, damage: str, tmp_path: Path) -> None:
    quiet_train(config(epochs=1))
    path = Path(config().output) / "last.ckpt"
    content = path.read_bytes()
    if damage == "foreign":
        torch.save({"state_dict": {}}, path)
    elif damage == "pickle":
        torch.save({"mlip": Payload(tmp_path / "run-by-unpickling")}, path)
    else:
        path.write_bytes({"truncate": content[: len(content) // 2], "text": b"hello", "empty": b""}[damage])
    with pytest.raises(ModelFileError, match=r"last\.ckpt.*damaged") as error:
        quiet_train(config(epochs=2), resume=True)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run-by-unpickling").exists()


class Payload:
    """What a hostile checkpoint might hold."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_missing_checkpoint(config: Config) -> None:
    with pytest.raises(FileMissingError, match="without --resume"):
        quiet_train(config(), resume=True)


def test_full_disk_leaves_the_old_checkpoint(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet_train(config(epochs=1))
    folder = Path(config().output)
    before = (folder / "last.ckpt").read_bytes()
    original = Path.write_bytes

    def fill_disk(self: Path, data: Any) -> int:
        if self.name == "last.ckpt.partial":
            original(self, bytes(data)[:1000])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return original(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill_disk)
        with pytest.raises(OSError, match="No space left") as error:
            quiet_train(config(epochs=2), resume=True)
    assert error.value.errno == errno.ENOSPC
    assert (folder / "last.ckpt").read_bytes() == before
    assert not list(folder.glob("*.partial"))
    quiet_train(config(epochs=2), resume=True)


def die_while_writing(path: Path) -> None:
    """Write half of a checkpoint, then be killed."""
    original = Path.write_bytes

    def write_half(self: Path, data: Any) -> int:
        original(self, bytes(data)[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    Path.write_bytes = write_half  # type: ignore[method-assign, assignment]
    AtomicCheckpointIO().save_checkpoint({"new": torch.zeros(1000)}, path)


def test_kill_while_writing_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"old": torch.ones(3)}, path)
    process = multiprocessing.get_context("fork").Process(target=die_while_writing, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert torch.equal(torch.load(path, weights_only=True)["old"], torch.ones(3))
    AtomicCheckpointIO().save_checkpoint({"new": torch.zeros(3)}, path)
    assert "new" in torch.load(path, weights_only=True)
    assert not list(tmp_path.glob("*.partial"))
