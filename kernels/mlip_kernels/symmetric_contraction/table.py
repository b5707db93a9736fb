"""What a symmetric contraction computes: symmetric products of the input, by output irrep and correlation order."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ContractionTerm:
    """The products of one correlation order that give one output irrep.

    Attributes:
        output: Number of the output irrep.
        monomials: Input components multiplied in each monomial, int64 [monomials, order], ascending in a row.
        coefficients: float64 [products, 2*l+1, monomials]; each product is an equivariant map of the symmetric power.
        weight_offset: First of the term's `products` rows in the weights.
    """

    output: int
    monomials: NDArray[np.int64]
    coefficients: NDArray[np.float64]
    weight_offset: int


@dataclass(frozen=True, eq=False)
class ContractionTable:
    """All terms of a symmetric contraction.

    Attributes:
        terms: The terms; those of one output irrep stand together, in the order of the irreps.
        input_components: Components of the input per channel, (l_max + 1)^2.
        output_components: Components 2*l+1 of each output irrep.
        num_weights: Products of all terms together.
    """

    terms: tuple[ContractionTerm, ...]
    input_components: int
    output_components: tuple[int, ...]
    num_weights: int
