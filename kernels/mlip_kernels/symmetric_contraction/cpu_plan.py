"""A symmetric contraction as polynomials: one coefficient vector per output component and monomial."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mlip_kernels.symmetric_contraction.table import ContractionTable

# Coefficients below this are rounding of zeros.
_ZERO = 1e-12

Monomial = tuple[int, ...]


@dataclass(frozen=True)
class ContractionPlan:
    """The monomials of a table in the order of a tree: each stands below the one without its last factor.

    Weights and couplings are joined before the products are formed: for every element and channel, an output component
    is a polynomial in the input components whose coefficients are linear in the weights. Far fewer coefficients are
    left than there are terms (monomial, product).
    """

    table: ContractionTable

    @cached_property
    def rows(self) -> list[tuple[int, Monomial]]:
        """Output component and monomial of each coefficient."""
        return sorted(self._couplings)

    @cached_property
    def collapse(self) -> NDArray[np.float64]:
        """Coefficients from weights, [rows, num_weights]."""
        matrix = np.zeros((len(self.rows), self.table.num_weights))
        for number, row in enumerate(self.rows):
            for weight, value in self._couplings[row].items():
                matrix[number, weight] = value
        return matrix

    @cached_property
    def row_numbers(self) -> dict[Monomial, dict[int, int]]:
        """Of each monomial, the rows of the output components that have it."""
        numbers: dict[Monomial, dict[int, int]] = {}
        for number, (component, monomial) in enumerate(self.rows):
            numbers.setdefault(monomial, {})[component] = number
        return numbers

    @cached_property
    def children(self) -> dict[Monomial, list[int]]:
        """Factors that follow each beginning of a monomial, ascending."""
        children: dict[Monomial, set[int]] = {}
        for monomial in self.row_numbers:
            for length in range(len(monomial)):
                children.setdefault(monomial[:length], set()).add(monomial[length])
        return {prefix: sorted(factors) for prefix, factors in children.items()}

    @property
    def num_outputs(self) -> int:
        """Output components of all irreps together."""
        return sum(self.table.output_components)

    @cached_property
    def _couplings(self) -> dict[tuple[int, Monomial], dict[int, float]]:
        starts = np.cumsum([0, *self.table.output_components])
        couplings: dict[tuple[int, Monomial], dict[int, float]] = {}
        for term in self.table.terms:
            for product, k, m in np.argwhere(np.abs(term.coefficients) > _ZERO):
                key = int(starts[term.output] + k), tuple(int(factor) for factor in term.monomials[m])
                of_row = couplings.setdefault(key, {})
                weight = term.weight_offset + int(product)
                of_row[weight] = of_row.get(weight, 0.0) + float(term.coefficients[product, k, m])
        return couplings


def table_hash(table: ContractionTable) -> str:
    """Names everything in a table that compiled code depends on."""
    digest = hashlib.sha256(repr((table.input_components, table.output_components, table.num_weights)).encode())
    for term in table.terms:
        digest.update(repr((term.output, term.weight_offset, term.coefficients.shape)).encode())
        digest.update(term.monomials.tobytes() + (np.abs(term.coefficients) > _ZERO).tobytes())
    return digest.hexdigest()
