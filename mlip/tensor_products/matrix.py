"""Backend `matrix`: products of spin matrices (Unke and Maennel 2024, arXiv 2401.07595, "fused tensor product").

Under rotations the matrices of n × n numbers, n = 2s + 1, hold every degree l ≤ 2s once. Features become matrices, the
matrices are multiplied, and the result is taken apart into degrees again: n³ multiplications between three linear maps.
Unlike Gaunt products it couples degrees of even and of odd sum.
"""

from functools import partial
from math import sqrt
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlip.so3 import wigner_3j
from mlip.tensor_products.backend import Backend
from mlip.tensor_products.couplings import Coupling, couples
from mlip.tensor_products.matrix_product import MatrixProduct
from mlip.tensor_products.sectors import sectors
from mlip.tensor_products.spec import ProductSpec


class SpinMatrix(Backend):
    """Product of matrices of the spin `spec.spin`, with the coefficients of `mlip.so3.matrix_coupling`.

    Inside, matrices are transposed and multiplied in reverse order: where all channels of x share one matrix of y, it
    then stands on the left, and the rows of the other run along the channels.
    """

    couplings: ClassVar[tuple[Coupling, ...]] = ("matrix",)

    def __init__(self, spec: ProductSpec) -> None:
        super().__init__(spec)
        size = 2 * spec.spin + 1
        signs = sectors(spec, partial(couples, spec.coupling, spin=spec.spin))
        self.shape = (len(signs.in1), size, size)
        for operand, name in enumerate(_TABLES):
            basis = transposed_matrices(spec.l_max[operand], spec.spin).reshape(size * size, -1)
            self.register_constant(name, torch.tensor(signs.lift(operand, basis, spec)).flatten(0, 1))

    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        first, second, third = (self.constant(name, x) for name in _TABLES)
        if y.shape[2] == 1:
            tables = (table.unflatten(0, self.shape) for table in (first, second, third))
            result: Tensor = MatrixProduct.apply(x, y, x.shape[2], *tables)
            return result
        right, left = (
            (operand.transpose(1, 2) @ table.T).unflatten(2, self.shape) for operand, table in ((x, first), (y, second))
        )
        return ((left @ right).flatten(2) @ third).transpose(1, 2)

    def tables(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps to matrices [signals · n², dims[0]], of the second operand too, and back [dims[2], signals · n²].

        The product of one signal is `second @ first`, matrices as in `shape`.

        Args:
            like: A tensor of the dtype and device wanted.
        """
        to_1, to_2, back = (self.constant(name, like) for name in _TABLES)
        return to_1, to_2, back.T

    def flops(self, batch: int, channels: int, channels_in2: int) -> int:
        d1, d2, d3 = self.spec.dims
        signals, size, _ = self.shape
        maps = 2 * signals * size**2 * (d1 * channels + d2 * channels_in2 + d3 * channels)
        return batch * (maps + 2 * signals * size**3 * channels)


_TABLES = ("to_matrices_1", "to_matrices_2", "from_matrices")


def transposed_matrices(l_max: int, spin: int) -> NDArray[np.float64]:
    """Transposes of the orthonormal matrices B_lm = √(2l + 1) w3j(spin, spin, l)[:, :, m], l ≤ l_max.

    Returns:
        float64 [2 spin + 1, 2 spin + 1, (l_max + 1)²].
    """
    blocks = [sqrt(2 * degree + 1) * wigner_3j(spin, spin, degree) for degree in range(l_max + 1)]
    return np.concatenate(blocks, 2).swapaxes(0, 1)
