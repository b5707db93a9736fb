"""Backend `gaunt_fourier`: Gaunt products as products of two-dimensional Fourier series (Luo et al. 2024, 2401.10216).

Harmonics are finite Fourier series on the torus 0 ≤ θ, φ < 2π (see `mlip.so3.fourier`), so that the product of two
functions on the sphere is the convolution of their coefficients, or the product of their values at enough points of the
torus. With K = L1 + L2 the product has the frequencies |u|, |v| ≤ K. Its projection on degrees up to L3 reads all of
the u, since sin θ on the sphere is |sin θ| on the torus, but only |v| ≤ L3: exact are 2K + 1 points in θ and
K + min(K, L3) + 1 in φ, for which the frequencies that wrap around meet none that are read.
"""

from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlip.so3 import fourier_coefficients, fourier_projection
from mlip.tensor_products.backend import Backend
from mlip.tensor_products.couplings import Coupling, choose
from mlip.tensor_products.gaunt_fourier_fft import FastTransform, fft_sizes, series_tables
from mlip.tensor_products.sectors import sectors
from mlip.tensor_products.spec import ProductSpec
from mlip.tensor_products.spherical_grid_product import DenseTransform, GridProduct, Leg, Transform

Algorithm = Literal["direct", "fft"]
Array = NDArray[np.float64]
# Total degree L1 + L2 + L3 from which fast transforms took less time on a CPU.
FFT_FROM_DEGREE = 54
_TABLES = ("in1", "in2", "out")


class GauntFourier(Backend):
    """Product of functions on the sphere by Fourier series on the torus.

    Args:
        spec: What to compute.
        algorithm: `direct`: Fourier series and discrete transform joined in one real table for each operand and for the
            result, on the half of the torus that is all of the sphere. `fft`: a matrix for each order, padded fast
            Fourier transforms on all of the torus, and back. By default the faster one for the degrees: fast transforms
            do fewer operations from L = 5 on, and take less time only from L1 + L2 + L3 = 54 on (on a CPU).

    Raises:
        ConfigError: there is no such algorithm.
    """

    couplings: ClassVar[tuple[Coupling, ...]] = ("gaunt",)
    pointwise: ClassVar[bool] = True

    def __init__(self, spec: ProductSpec, *, algorithm: Algorithm | None = None) -> None:
        super().__init__(spec)
        if algorithm is not None:
            choose("algorithm", algorithm, get_args(Algorithm))
        self.algorithm = algorithm or ("fft" if sum(spec.l_max) >= FFT_FROM_DEGREE else "direct")
        if self.algorithm == "fft":
            theta, phi = fft_sizes(*spec.l_max)
            series, signals = series_tables(spec, (theta, phi))
            self.shape = (signals, theta, phi)
            tables = [table.coefficients for table in series]
            for name, table in zip(_TABLES, series, strict=True):
                self.register_buffer(f"slots_{name}", torch.tensor(table.slots), persistent=False)
                self.register_buffer(f"places_{name}", torch.tensor(table.places), persistent=False)
        else:
            first, second, third = torus_factors(spec)
            tables = [first, second, third.T]
        for name, values in zip(_TABLES, tables, strict=True):
            self.register_constant(name, torch.tensor(values))

    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        result: Tensor = GridProduct.apply(x, y, x.shape[2], *self._legs(x))
        return result

    def factors(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first, second, third = (transform.table() for (transform,) in self._legs(like))
        return first, second, third.T

    def flops(self, batch: int, channels: int, channels_in2: int) -> int:
        legs = self._legs(torch.empty(0, dtype=torch.float64))
        transforms = zip(legs, (channels, channels_in2, channels), strict=True)
        maps = sum(transform.flops(width) for (transform,), width in transforms)
        return batch * (maps + legs[0][0].rows * channels)

    def _legs(self, like: Tensor) -> tuple[Leg, Leg, Leg]:
        """Transforms of both operands and of the result, in the dtype and on the device of a tensor."""
        first, second, third = ((self._transform(name, like),) for name in _TABLES)
        return first, second, third

    def _transform(self, name: str, like: Tensor) -> Transform:
        table = self.constant(name, like)
        if self.algorithm == "direct":
            return DenseTransform(table)
        slots, places = (self.get_buffer(f"{each}_{name}").to(like.device) for each in ("slots", "places"))
        return FastTransform(table, slots, places, self.shape)


def torus_factors(spec: ProductSpec) -> tuple[Array, Array, Array]:
    """Tables A, B, C with which a Gaunt product is `z = C ((A x) ⊙ (B y))`: Fourier series and their transform in one.

    The points are θ_j = 2πj/(2K + 1), 0 ≤ j ≤ K, and φ_k = 2πk/N: the rest of the torus, θ > π, is these directions
    again, and on the pole θ = 0 all φ are one. N = K + min(K, L3) + 1, so that R is 1 + K N for each signal.

    Args:
        spec: Irreps of the product; see `sectors` for when they need two signals.

    Returns:
        [R, dims[0]], [R, dims[1]] and [dims[2], R], float64.
    """
    l1, l2, l3 = spec.l_max
    highest = l1 + l2
    theta = 2 * np.pi * np.arange(highest + 1) / (2 * highest + 1)
    phi_count = highest + min(highest, l3) + 1
    phi = 2 * np.pi * np.arange(phi_count) / phi_count
    signs = sectors(spec, lambda *degrees: sum(degrees) % 2 == 0)
    first, second = (signs.lift(operand, _values(spec.l_max[operand], theta, phi), spec) for operand in (0, 1))
    third = signs.lift(2, _weights(l3, highest, theta, phi), spec)
    return _stacked(first), _stacked(second), _stacked(third).T


def _stacked(lifted: Array) -> Array:
    """Signals one after another, [S · points, components]."""
    return np.ascontiguousarray(lifted.reshape(-1, lifted.shape[2]))


def _values(l_max: int, theta: Array, phi: Array) -> Array:
    """Harmonics at the pole θ = 0 and on circles of equal θ, [1 + circles · φ, (l_max + 1)²]."""
    frequencies = np.arange(-l_max, l_max + 1)
    circles, waves = (np.exp(1j * np.outer(angles, frequencies)) for angles in (theta, phi))
    values = np.einsum("nuv,tu,pv->tpn", fourier_coefficients(l_max), circles, waves, optimize=True).real
    return np.concatenate([values[0, :1], values[1:].reshape(-1, values.shape[2])])


def _weights(l_max: int, degree: int, theta: Array, phi: Array) -> Array:
    """Integrals with harmonics from a function's values at the points of `_values`, [1 + circles · φ, (l_max + 1)²].

    On the circle −θ_j the function has the same values as on θ_j half a turn of φ further, hence (−1)^v times the same
    coefficients of e^{ivφ}.
    """
    columns = min(degree, l_max)
    u, v = np.arange(-degree, degree + 1), np.arange(-columns, columns + 1)
    both = np.exp(-1j * np.outer(theta, u))[:, :, None] + (-1.0) ** v * np.exp(1j * np.outer(theta, u))[:, :, None]
    both[0] = 1.0
    analysis = np.exp(-1j * np.outer(phi, v)) / ((2 * degree + 1) * len(phi))
    projection = fourier_projection(l_max, degree)[:, :, l_max + v]
    table = np.einsum("nuv,tuv,pv->tpn", projection, both, analysis, optimize=True).real
    return np.concatenate([table[0].sum(0, keepdims=True), table[1:].reshape(-1, table.shape[2])])
