"""A multilayer perceptron without biases."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from mlip.nn.activation import normalised_activation
from mlip.nn.weights import normal_weights


class MLP(nn.Module):
    """Linear maps without biases, normalised SiLU between them, each divided by the square root of its inputs.

    Zero maps to zero: edges at the cutoff, where the radial basis vanishes, have no weight.

    Args:
        widths: Numbers of inputs, of units in each hidden layer, and of outputs.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList([normal_weights(n_in, n_out) for n_in, n_out in pairwise(widths)])

    def forward(self, values: Tensor) -> Tensor:
        """Map [rows, inputs] to [rows, outputs]."""
        return self.last(self.hidden(values))

    def hidden(self, values: Tensor) -> Tensor:
        """Map [rows, inputs] to the units of the last hidden layer, or to themselves where there is none."""
        for weight in list(self.weights)[:-1]:
            values = normalised_activation("silu", _map(values, weight))
        return values

    def last(self, units: Tensor) -> Tensor:
        """Map the units of the last hidden layer to the outputs."""
        return _map(units, self.weights[-1])


def _map(values: Tensor, weight: Tensor) -> Tensor:
    return values @ (weight / math.sqrt(weight.shape[0]))
