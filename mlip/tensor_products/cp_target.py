"""The tensor that a CP decomposition approximates: a coupling of signals that hold each degree once."""

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mlip.tensor_products.couplings import Coupling, couples, coupling_tensor
from mlip.tensor_products.spec import ProductSpec


@dataclass(frozen=True)
class CPTarget:
    """A coupling between some degrees of two signals and their product.

    Attributes:
        coupling: Which function is computed.
        degrees: Degrees of each operand and of the result, ascending, each once.
        spin: Of the coupling `matrix`.
        even_only: Whether paths with odd l1 + l2 + l3 are left out.
    """

    coupling: Coupling
    degrees: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    spin: int
    even_only: bool

    @classmethod
    def of(cls, spec: ProductSpec) -> "CPTarget":
        """What a spec needs. Its paths with odd sums are kept together with those with even sums."""
        first, second, third = (tuple(sorted({irrep.l for irrep in irreps})) for irreps in spec.operands)
        even_only = all(sum(irrep.l for irrep in path[3:]) % 2 == 0 for path in spec.paths)
        return cls(spec.coupling, (first, second, third), spec.spin, even_only)

    def couples(self, l1: int, l2: int, l3: int) -> bool:
        """Whether the tensor has a block of these degrees."""
        if self.even_only and (l1 + l2 + l3) % 2:
            return False
        return couples(self.coupling, l1, l2, l3, self.spin)

    @property
    def l_max(self) -> tuple[int, int, int]:
        """Highest degree of each operand and of the result."""
        l1, l2, l3 = (degrees[-1] for degrees in self.degrees)
        return l1, l2, l3

    @cached_property
    def coupled_l_max(self) -> tuple[int, int, int]:
        """Highest degree of each operand and of the result that couples to any of the others."""
        coupled = [triple for triple in product(*self.degrees) if self.couples(*triple)]
        l1, l2, l3 = (max(degrees) for degrees in zip(*coupled, strict=True))
        return l1, l2, l3

    @property
    def always_enough(self) -> int:
        """Rank that is always enough for an exact decomposition: the smallest product of two dimensions."""
        d1, d2, d3 = (sum(2 * degree + 1 for degree in degrees) for degrees in self.degrees)
        return min(d1 * d2, d1 * d3, d2 * d3)

    @cached_property
    def tensor(self) -> NDArray[np.float64]:
        """Coefficients [(L1+1)², (L2+1)², (L3+1)²], zero for degrees that do not occur."""
        l1_max, l2_max, l3_max = self.l_max
        tensor = np.zeros(((l1_max + 1) ** 2, (l2_max + 1) ** 2, (l3_max + 1) ** 2))
        for l1, l2, l3 in product(*self.degrees):
            if self.couples(l1, l2, l3):
                block = coupling_tensor(self.coupling, l1, l2, l3, self.spin)
                tensor[_rows(l1), _rows(l2), _rows(l3)] = block
        return tensor

    def present(self, operand: int) -> NDArray[np.bool_]:
        """Which components of an operand (0, 1, or 2 for the result) belong to degrees that occur, [(L+1)²]."""
        present = np.zeros((self.l_max[operand] + 1) ** 2, dtype=bool)
        for degree in self.degrees[operand]:
            present[_rows(degree)] = True
        return present


def full_target(l_max: int, even_only: bool = False) -> CPTarget:
    """The Clebsch-Gordan coupling of all degrees up to l_max."""
    degrees = tuple(range(l_max + 1))
    return CPTarget("clebsch_gordan", (degrees, degrees, degrees), 0, even_only)


def _rows(degree: int) -> slice:
    return slice(degree**2, (degree + 1) ** 2)
