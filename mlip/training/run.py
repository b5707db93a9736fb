"""A training run from its configuration to a model, its errors and a report."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from rich.console import Console

from mlip.data.dataset import GraphDataset
from mlip.data.loading import build_loader
from mlip.models import build_model, load, save
from mlip.training.callbacks import BestModel, Interruption, NotANumberGuard, Stopped, graceful_interrupt
from mlip.training.checkpoints import LastCheckpoint, identity_of, resumed_config
from mlip.training.config import CosineSchedule, TrainingConfig
from mlip.training.datasets import Frames, build_datasets, read_frames, require_electrostatics
from mlip.training.ema import ExponentialMovingAverage
from mlip.training.evaluation import evaluate
from mlip.training.history import BatchBar, History
from mlip.training.module import EpochBatches, TrainingModule
from mlip.training.output import RunFolder
from mlip.training.preparation import fill_model_config, find_elements, require_known_elements
from mlip.training.provenance import collect_provenance
from mlip.training.report import Report
from mlip.training.schedule import CosineLearningRate, PlateauLearningRate
from mlip.training.trainer import Process, build_trainer, choose_device, quiet_lightning


class Interrupted(KeyboardInterrupt):
    """Ctrl-C was pressed; `checkpoint` is what the run can be resumed from, None if nothing was saved yet."""

    def __init__(self, checkpoint: Path | None) -> None:
        super().__init__()
        self.checkpoint = checkpoint


@dataclass
class Run:
    """What a finished run leaves behind; there is a report in the first process only."""

    folder: RunFolder
    config: TrainingConfig
    report: Report | None


def train(
    config: TrainingConfig, *, resume: bool = False, overwrite: bool = False, console: Console | None = None
) -> Run:
    """Train a model as the configuration says, and write everything to its output folder.

    Started by torchrun, every process takes its share of each batch, and the first one prints and writes.

    Args:
        config: what to do.
        resume: go on from the checkpoint in the output folder.
        overwrite: replace a run that is in the output folder already.
        console: where to print; standard output if None.

    Raises:
        MLIPError: configuration, data or output folder need to be mended, or the loss is no longer a number.
        Interrupted: Ctrl-C was pressed; what there was is saved.
    """
    process = Process.from_environment()
    console = Console(quiet=True) if process.rank > 0 else console or Console(highlight=False)
    folder = RunFolder(config.output)
    device = choose_device(config)
    if process.rank == 0 and not resume:
        folder.refuse_other_run(overwrite)

    training, validation = read_frames(config)
    tests = {name: Frames.read([path], config.data.keys) for name, path in _short_names(config.data.test).items()}
    sizes = (len(training), len(validation))
    if resume:
        config = resumed_config(folder.checkpoint, config, sizes)
    datasets = build_datasets(training, validation, config)
    if not resume:
        config = fill_model_config(config, find_elements(training), datasets[0])
    for frames in (training, validation, *tests.values()):
        require_known_elements(frames, config.model.elements)
        if config.model.long_range is not None:
            require_electrostatics(frames, config.model.long_range, config.data.keys.charges)
    module = TrainingModule(build_model(config.model, config.dtype), config, identity_of(config, sizes))
    parameters = sum(parameter.numel() for parameter in module.parameters())
    provenance = collect_provenance(config, sizes, parameters, device, process.world_size)
    _introduce(console, module, training, validation, provenance)
    if process.rank == 0:
        folder.prepare(config, keep=resume)

    history, best = _fit(module, datasets, training, process, folder, provenance, resume, console)
    if process.rank > 0:
        return Run(folder, config, None)
    model = load(folder.model, device=device)
    evaluations = {}
    for name, frames in {"validation": validation, **tests}.items():
        evaluation = evaluate(model, frames, max_edges=config.batch.max_edges, stress=module.wants_stress)
        console.print(evaluation.errors.render(f"Errors on {name}, weights of epoch {best.epoch}"))
        evaluations[name] = evaluation
    report = Report(config, history.rows, best.epoch, provenance, evaluations)
    report.write(folder.report)
    console.print(f"Model   {folder.model}\nReport  {folder.report}", soft_wrap=True)
    return Run(folder, config, report)


def _short_names(paths: list[str]) -> dict[str, str]:
    """Paths by their file names, or by themselves where two files have the same name."""
    names = [Path(path).name for path in paths]
    return dict(zip(names if len(set(names)) == len(names) else paths, paths, strict=True))


def _fit(
    module: TrainingModule,
    datasets: tuple[GraphDataset, GraphDataset],
    training: Frames,
    process: Process,
    folder: RunFolder,
    provenance: dict[str, Any],
    resume: bool,
    console: Console,
) -> tuple[History, BestModel]:
    """Train until the last epoch, or until patience is lost."""
    config = module.config
    share = {"seed": config.seed, "rank": process.rank, "world_size": process.world_size}
    batches = EpochBatches(build_loader(datasets[0], config.batch.max_edges, shuffle=True, **share), module)
    validation_loader = build_loader(datasets[1], config.batch.max_edges, shuffle=False, **share)
    average = ExponentialMovingAverage(config.ema) if config.ema else None

    def save_best(epoch: int, loss: float) -> None:
        if process.rank == 0:
            with average.averaged(module) if average else nullcontext():
                save(module.potential, folder.model, {**provenance, "epoch": epoch, "validation_loss": loss})

    best = BestModel(save_best, config.patience)
    history = History(folder, console)
    # The order counts: what a checkpoint keeps has to be up to date when the last but one of them writes it.
    callbacks: list[Callback] = [
        *([average] if average else []),
        *([BatchBar(console, len(training))] if console.is_terminal and process.rank == 0 else []),
        NotANumberGuard(lambda epoch, batch: training.describe(batches.frames(epoch, batch))),
        best,
        history,
        _schedule(config),
        LastCheckpoint(folder.checkpoint),
        Interruption(folder.checkpoint),
    ]
    with quiet_lightning(), graceful_interrupt(module):
        trainer = build_trainer(config, process, folder.path, callbacks)
        try:
            checkpoint = str(folder.checkpoint) if resume else None
            trainer.fit(module, batches, validation_loader, ckpt_path=checkpoint, weights_only=True)
        except Stopped:
            raise Interrupted(folder.checkpoint if folder.checkpoint.exists() else None) from None
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
    return history, best


def _schedule(config: TrainingConfig) -> Callback:
    if isinstance(config.schedule, CosineSchedule):
        return CosineLearningRate(config.schedule, config.optimizer.learning_rate, config.epochs)
    return PlateauLearningRate(config.schedule)


def _introduce(
    console: Console, module: TrainingModule, training: Frames, validation: Frames, provenance: dict[str, Any]
) -> None:
    """Two lines on what is about to happen."""
    model = module.config.model
    console.print(
        f"Training {model.architecture} {model.hidden_irreps}, {provenance['parameters']} parameters, "
        f"{module.config.dtype}, for {' '.join(model.elements)}, on {len(training)} frames, "
        f"with {len(validation)} for validation,\n"
        f"on {provenance['machine']}, {provenance['processes']} process(es) of {provenance['threads']} thread(s), "
        f"into {module.config.output}",
        soft_wrap=True,
    )
