"""Sums of the errors of a batch, and the loss made of them.

Everything is kept as sums and counts until the end, since sums and counts of several batches or processes add up to
what one process would find, whereas means do not.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import huber_loss
from torch_geometric.data import Batch

from mlip.data.labels import PER_ATOM, PROPERTIES
from mlip.models import Prediction
from mlip.training.config import TERMS


class ErrorSums(NamedTuple):
    """Sums over the labelled components of a batch, each [terms] float64, in the order of `TERMS`.

    The energy, which is taken per atom, of a structure counts as one component, its forces as three per atom, its
    stress as nine, charges as one per atom, its dipole as three, its total charge as one.
    """

    loss: Tensor  # Of the loss per component times the weight of the structure.
    absolute: Tensor  # Of |error|, in eV, eV/Å, eV/Å³, e, e Å.
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
        delta: where Huber's loss turns linear, in the units of the property.
    """
    rows = []
    for name in TERMS:
        predicted = getattr(prediction, name)
        if predicted is None:
            rows.append(batch.weight.new_zeros(4))
            continue
        error = predicted - batch[name]
        if name == "energy":
            error = error / batch.ptr.diff()
        labelled = batch[f"has_{name}"] if name in PROPERTIES else torch.ones_like(batch.has_energy)
        weight = batch.weight
        if name in PER_ATOM:
            labelled, weight = labelled[batch.batch], weight[batch.batch]
        rows.append(_sums(error, labelled, weight, kind, delta))
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
    """The loss (a scalar): per term the mean over its labelled components, added up with the weights.

    Args:
        loss: sums as in `ErrorSums`, of one or of all processes.
        count: the number of components in all processes.
        weights: in the order of `TERMS`.
    """
    return (weights * loss / count.clamp(min=1.0)).sum()
