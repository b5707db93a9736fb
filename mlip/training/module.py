"""The Lightning module: one training step, one validation, the optimizer, and what a checkpoint says about itself."""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader
from torch_geometric.data import Batch

from mlip.data.samplers import EdgeBatchSampler
from mlip.errors import ModelFileError
from mlip.models import Potential
from mlip.training.config import TERMS, TrainingConfig
from mlip.training.losses import error_sums, weighted_loss
from mlip_kernels.wanted import only


class EpochBatches:
    """The batches of the epoch that the trainer is in, without those that an interrupted run has already used.

    It has no length, because the number of batches that an epoch is packed into changes from epoch to epoch.
    """

    def __init__(self, loader: "DataLoader[Batch]", module: "TrainingModule") -> None:
        assert isinstance(loader.batch_sampler, EdgeBatchSampler)
        self._loader, self._sampler, self._module = loader, loader.batch_sampler, module

    def __iter__(self) -> Iterator[Batch]:
        self._sampler.set_epoch(self._module.epoch_index)
        return islice(iter(self._loader), self._module.batches_done, None)

    def frames(self, epoch: int, batch: int) -> list[int]:
        """Which frames of the training set made up a batch, both counted from 0."""
        self._sampler.set_epoch(epoch)
        return next(islice(iter(self._sampler), batch, None))


class TrainingModule(LightningModule):
    """A potential on its way to fit energies, forces and stresses.

    The loss of a batch is normalised by the number of labels in the batches of all processes together, so that it
    does not depend on the number of processes.

    `metrics` holds the numbers of the latest epoch: losses as dimensionless numbers, errors in eV per atom, eV/Å,
    eV/Å³, e and e Å. The validation loss is taken with the weights of the last loss stage, so that it can be compared
    along a run.
    """

    def __init__(self, potential: Potential, config: TrainingConfig, identity: dict[str, Any]) -> None:
        super().__init__()
        self.potential = potential
        potential.network.radial_knots = config.radial_knots
        self.identity = identity
        self.config = config
        largest = config.loss.largest_weights()
        self.wants_forces, self.wants_stress = largest["forces"] > 0, largest["stress"] > 0
        self.predicted = {"energy", *(name for name, weight in largest.items() if weight > 0)}
        self.metrics: dict[str, float] = {}
        self.batches_done = 0  # Of the current epoch.
        self.health = torch.tensor(0.0)  # A number that is finite if loss and gradient of the latest batch are.
        self.stop_requested = False  # Set by a signal; every process then stops after the same batch.
        self.stopping = False
        self._train_sums = torch.zeros(2, len(TERMS), dtype=torch.float64)  # Rows: loss, count.
        self._validation_sums = torch.zeros(4, len(TERMS), dtype=torch.float64)  # Rows as in ErrorSums.

    @property
    def epoch_index(self) -> int:
        """Index of the epoch in progress, from 0."""
        return self.trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, with weight decay on matrices and tensors only."""
        options = self.config.optimizer
        parameters = list(self.potential.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": options.weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        return torch.optim.Adam(groups, lr=options.learning_rate, amsgrad=options.amsgrad, fused=True)

    def on_fit_start(self) -> None:
        """Bring the running sums to the device."""
        self._train_sums = self._train_sums.to(self.device)
        self._validation_sums = self._validation_sums.to(self.device)

    def on_train_start(self) -> None:
        """Take the loss weights of an epoch that is resumed in its middle."""
        self.on_train_epoch_start()

    def on_train_epoch_start(self) -> None:
        """Take the loss weights of this epoch; the sums were emptied at the end of the last one."""
        weights = self.config.loss.weights(self.epoch_index + 1)
        self._weights = torch.tensor(weights, dtype=torch.float64, device=self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        loss_config = self.config.loss
        prediction = self.potential(batch, forces=self.wants_forces, stress=self.wants_stress)
        sums = error_sums(prediction, batch, loss_config.kind, loss_config.delta)
        count = self._count_everywhere(sums.components)
        self._train_sums += torch.stack([sums.loss.detach(), sums.components])
        loss = weighted_loss(sums.loss, count, self._weights)
        self.health = loss.detach()
        self.batches_done += 1
        # Gradients are averaged over processes, whereas the loss is a sum over them.
        return loss * self.trainer.world_size

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Gradients of the parameters, and of nothing else: forces have been computed by now."""
        with only("parameters"):
            loss.backward(*args, **kwargs)

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Shorten a gradient that is too long."""
        longest = self.config.optimizer.gradient_clip or math.inf
        self.health = self.health + torch.nn.utils.clip_grad_norm_(self.potential.parameters(), longest)

    def _count_everywhere(self, count: Tensor) -> Tensor:
        """Counts summed over the processes, which agree on the way whether to stop."""
        if self.trainer.world_size == 1:
            self.stopping = self.stop_requested
            return count
        message = torch.cat([count, count.new_tensor([float(self.stop_requested)])])
        torch.distributed.all_reduce(message)
        self.stopping = bool(message[-1] > 0)
        return message[:-1]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the errors of one batch to the sums."""
        prediction = self.potential(batch, forces=self.wants_forces, stress=self.wants_stress)
        loss_config = self.config.loss
        self._validation_sums += torch.stack(error_sums(prediction, batch, loss_config.kind, loss_config.delta))

    def on_validation_epoch_end(self) -> None:
        """Turn the sums of this epoch into `metrics`."""
        sums = torch.cat([self._train_sums, self._validation_sums])
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(sums)
        sums = sums.cpu()
        final_weights = torch.tensor(self.config.loss.weights(self.config.epochs), dtype=torch.float64)
        count = sums[5].clamp(min=1.0)
        self.metrics = {
            "train_loss": float(weighted_loss(sums[0], sums[1], self._weights.cpu())),
            "validation_loss": float(weighted_loss(sums[2], sums[5], final_weights)),
        }
        for name, mae, mse in zip(TERMS, sums[3] / count, sums[4] / count, strict=True):
            if name in self.predicted:
                label = "energy_per_atom" if name == "energy" else name
                self.metrics |= {f"{label}_mae": float(mae), f"{label}_rmse": float(mse.sqrt())}
        self._train_sums.zero_()
        self._validation_sums.zero_()
        self.batches_done = 0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say whose checkpoint it is, and how far the epoch has come."""
        checkpoint["mlip"] = self.identity
        checkpoint["epoch_so_far"] = {"batches_done": self.batches_done, "train_sums": self._train_sums}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue within the epoch. Raises ModelFileError for weights that are not those of this model."""
        written = {name: tensor.shape for name, tensor in checkpoint["state_dict"].items()}
        if written != {name: tensor.shape for name, tensor in self.state_dict().items()}:
            raise ModelFileError(
                f"the checkpoint in '{self.config.output}' was written by mlip {checkpoint['mlip']['version']}, whose "
                f"{self.config.model.architecture} model has other weights; resume with that version, or start the run "
                "again with --overwrite"
            )
        self.batches_done = checkpoint["epoch_so_far"]["batches_done"]
        self._train_sums = checkpoint["epoch_so_far"]["train_sums"]


def training_module(module: LightningModule) -> TrainingModule:
    """The module that a callback is given, as the type that it has."""
    assert isinstance(module, TrainingModule)
    return module
