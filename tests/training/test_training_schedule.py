"""Learning rates against PyTorch's own schedules."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mlip.training import schedule
from mlip.training.config import CosineSchedule, PlateauSchedule
from mlip.training.schedule import CosineLearningRate, PlateauLearningRate, learning_rate


def make_trainer(rate: float) -> Any:
    parameter = torch.nn.Parameter(torch.zeros(1))
    return SimpleNamespace(optimizers=[torch.optim.SGD([parameter], lr=rate)], current_epoch=0)


def test_cosine_is_torchs() -> None:
    epochs, minimum = 17, 1e-4
    ours, theirs = make_trainer(0.02), make_trainer(0.02)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(theirs.optimizers[0], T_max=epochs, eta_min=minimum)
    callback = CosineLearningRate(CosineSchedule(kind="cosine", minimum=minimum), 0.02, epochs)
    for epoch in range(epochs):
        ours.current_epoch = epoch
        callback.on_train_epoch_start(ours, None)  # type: ignore[arg-type]
        assert learning_rate(ours) == pytest.approx(learning_rate(theirs), rel=1e-9)
        theirs.optimizers[0].step()
        reference.step()


def test_plateau_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "training_module", lambda module: module)
    config = PlateauSchedule(factor=0.5, patience=2, minimum=1e-3)
    ours, theirs = make_trainer(0.02), make_trainer(0.02)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        theirs.optimizers[0], factor=0.5, patience=2, threshold=0.0, min_lr=1e-3, eps=0.0
    )
    callback = PlateauLearningRate(config)
    losses = [5.0, 4.0, 4.0, 4.5, 4.1, 3.9, 3.9, 4.0, 3.95, 3.9, *[4.0] * 20]
    rates = []
    for loss in losses:
        callback.on_train_epoch_end(ours, SimpleNamespace(metrics={"validation_loss": loss}))  # type: ignore[arg-type]
        reference.step(loss)
        rates.append(learning_rate(ours))
        assert rates[-1] == learning_rate(theirs)
    assert rates[0] == 0.02
    assert rates[-1] == 1e-3
