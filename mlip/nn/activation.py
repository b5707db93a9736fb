"""Activation functions scaled so that a standard normal input gives an output of second moment one."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": torch.nn.functional.silu, "tanh": torch.tanh}


@cache
def activation_scale(name: str) -> float:
    """`1 / sqrt(E[f(z)^2])` for z standard normal, by Gauss-Hermite quadrature.

    e3nn's `normalize2mom` estimates the same number from a million random draws, so that its value differs from this
    one by about 1e-3; a model that was trained with it is read by folding the ratio into the weights that follow.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    values = ACTIVATIONS[name](torch.tensor(nodes)).numpy()
    return float(1.0 / math.sqrt(np.sum(weights * values**2) / np.sum(weights)))


def normalised_activation(name: str, values: Tensor) -> Tensor:
    """The activation `name` of `values`, times its `activation_scale`."""
    return ACTIVATIONS[name](values) * activation_scale(name)
