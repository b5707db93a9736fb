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
        for number, weight in enumerate(self.weights):
            if number:
                values = normalised_activation("silu", values)
            values = values @ (weight / math.sqrt(weight.shape[0]))
        return values
