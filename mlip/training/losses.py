"""Sums of the errors of a batch, and the loss made of them.

Everything is kept as sums and counts until the end, since sums and counts of several batches or processes add up to
what one process would find, whereas means do not.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import huber_loss
from torch_geometric.data import Batch

from mlip.models import Prediction


class ErrorSums(NamedTuple):
    """Sums over the labelled components of a batch, each [3] float64: energy per atom, forces, stress.

    The energy of a structure counts as one component, its forces as three per atom, its stress as nine.
    """

    loss: Tensor  # Of the loss per component times the weight of the structure.
    absolute: Tensor  # Of |error|, in eV, eV/Å, eV/Å³.
    squared: Tensor  # Of error².
    components: Tensor  # Their number.


def error_sums(prediction: Prediction, batch: Batch, kind: str, delta: float) -> ErrorSums:
    """Compare a prediction with the labels of its batch.

    A missing label contributes nothing, yet every prediction stays in the graph, with a gradient of zero, because a
    process that found no gradient would keep the others waiting. What was not predicted (None) counts as unlabelled.

    Args:
        prediction: what the model says of `batch`.
        batch: structures with labels.
        kind: "mse" (squared error) or "huber".
        delta: where Huber's loss turns linear, in eV, eV/Å and eV/Å³.
    """
    weight = batch.weight
    rows = [_sums((prediction.energy - batch.energy) / batch.ptr.diff(), batch.has_energy, weight, kind, delta)]
    if prediction.forces is None:
        rows.append(torch.zeros_like(rows[0]))
    else:
        atom_weight, labelled = weight[batch.batch], batch.has_forces[batch.batch]
        rows.append(_sums(prediction.forces - batch.forces, labelled, atom_weight, kind, delta))
    if prediction.stress is None:
        rows.append(torch.zeros_like(rows[0]))
    else:
        rows.append(_sums(prediction.stress - batch.stress, batch.has_stress, weight, kind, delta))
    loss, *plain = torch.stack(rows, dim=1)
    return ErrorSums(loss, *(sums.detach() for sums in plain))


def _sums(error: Tensor, labelled: Tensor, weight: Tensor, kind: str, delta: float) -> Tensor:
    """The four sums [4] of errors [n, ...], some entries of which are labelled [n], all of them weighted [n]."""
    mask = labelled.view(-1, *[1] * (error.dim() - 1))
    error = error.where(mask, 0.0)  # Labels that are missing are NaN, which a product with zero would let through.
    loss = huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta) if kind == "huber" else error**2
    count = mask.expand_as(error).sum(dtype=error.dtype)
    plain = error.detach()
    return torch.stack([(loss * weight.view_as(mask)).sum(), plain.abs().sum(), plain.square().sum(), count])


def weighted_loss(loss: Tensor, count: Tensor, weights: Tensor) -> Tensor:
    """The loss (a scalar): per property the mean over its labelled components, added up with the weights [3].

    Args:
        loss: sums as in `ErrorSums`, of one or of all processes.
        count: the number of components in all processes.
        weights: of energy per atom, forces and stress.
    """
    return (weights * loss / count.clamp(min=1.0)).sum()
