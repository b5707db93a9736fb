"""What a backend has to compute: the irreps, paths and weights of a product of equally many channels."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np
from e3nn.o3 import Irrep

from mlip.tensor_products.couplings import Coupling, couples, coupling_tensor

WeightStructure = Literal["none", "per_path", "per_degree", "shared"]
WEIGHT_STRUCTURES: tuple[WeightStructure, ...] = get_args(WeightStructure)


class ProductPath(NamedTuple):
    """One coupling of two entries of the inputs to one of the output, by their positions in the irreps."""

    in1: int
    in2: int
    out: int
    irrep_in1: Irrep
    irrep_in2: Irrep
    irrep_out: Irrep


@dataclass(frozen=True)
class ProductSpec:
    """A product of features whose entries all have the same number of channels, which the spec leaves open.

    Operands are `[batch, components, channels]`, components of one irrep after another.

    Attributes:
        irreps_in1: Irreps of the first operand; the same irrep may stand several times.
        irreps_in2: Irreps of the second operand, whose channels are those of the first, or one for all of them.
        irreps_out: Irreps of the result.
        coupling: Which function is computed.
        weights: Structure of the weights; see `weight_rows`.
    """

    irreps_in1: tuple[Irrep, ...]
    irreps_in2: tuple[Irrep, ...]
    irreps_out: tuple[Irrep, ...]
    coupling: Coupling
    weights: WeightStructure

    @property
    def operands(self) -> tuple[tuple[Irrep, ...], tuple[Irrep, ...], tuple[Irrep, ...]]:
        """Irreps of both operands and of the result."""
        return self.irreps_in1, self.irreps_in2, self.irreps_out

    @cached_property
    def l_max(self) -> tuple[int, int, int]:
        """Highest degree of each operand and of the result."""
        l1, l2, l3 = (max(irrep.l for irrep in irreps) for irreps in self.operands)
        return l1, l2, l3

    @property
    def spin(self) -> int:
        """Spin of the matrices of the coupling `matrix`: the smallest that hold every degree."""
        return (max(self.l_max) + 1) // 2

    @cached_property
    def dims(self) -> tuple[int, int, int]:
        """Components of each operand and of the result."""
        d1, d2, d3 = (sum(irrep.dim for irrep in irreps) for irreps in self.operands)
        return d1, d2, d3

    @cached_property
    def offsets(self) -> tuple[list[int], list[int], list[int]]:
        """First component of each entry of each operand and of the result."""
        o1, o2, o3 = (np.cumsum([0, *(irrep.dim for irrep in irreps)])[:-1].tolist() for irreps in self.operands)
        return o1, o2, o3

    @cached_property
    def paths(self) -> tuple[ProductPath, ...]:
        """Every path that the coupling, rotations and inversion allow, ordered by in1, in2, out."""
        return tuple(
            ProductPath(i, j, k, first, second, out)
            for i, first in enumerate(self.irreps_in1)
            for j, second in enumerate(self.irreps_in2)
            for k, out in enumerate(self.irreps_out)
            if out.p == first.p * second.p and couples(self.coupling, first.l, second.l, out.l, self.spin)
        )

    @property
    def weight_rows(self) -> int:
        """Weights for one channel.

        `none`: 0. `shared`: 1, a factor of the result. `per_path`: one per path, in the order of `paths`.
        `per_degree`: one per entry of irreps_in1, then of irreps_in2, then of irreps_out, whose product weighs a path.
        """
        if self.weights == "per_path":
            return len(self.paths)
        if self.weights == "per_degree":
            return sum(map(len, self.operands))
        return 1 if self.weights == "shared" else 0

    def coefficients(self, path: ProductPath) -> np.ndarray:
        """Bare coefficients of a path, float64 `[2 l1 + 1, 2 l2 + 1, 2 l3 + 1]`."""
        return coupling_tensor(self.coupling, path.irrep_in1.l, path.irrep_in2.l, path.irrep_out.l, self.spin)

    def slices(self, path: ProductPath) -> tuple[slice, slice, slice]:
        """Components of a path's entries in each operand and in the result."""
        starts = (self.offsets[0][path.in1], self.offsets[1][path.in2], self.offsets[2][path.out])
        s1, s2, s3 = (slice(start, start + irrep.dim) for start, irrep in zip(starts, path[3:], strict=True))
        return s1, s2, s3

    def tensor(self) -> np.ndarray:
        """Coefficients of all paths in one array `dims`, float64: `z[k] = sum_ij tensor[i, j, k] x[i] y[j]`."""
        tensor = np.zeros(self.dims)
        for path in self.paths:
            tensor[self.slices(path)] += self.coefficients(path)
        return tensor
