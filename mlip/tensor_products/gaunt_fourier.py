"""Backend `gaunt_fourier`: Gaunt products as products of two-dimensional Fourier series (Luo et al. 2024, 2401.10216).

Harmonics are finite Fourier series on the torus 0 ≤ θ, φ < 2π (see `mlip.so3.fourier`), so that the product of two
functions on the sphere is the convolution of their coefficients, or the product of their values at enough points of the
torus. With K = L1 + L2 the product has the frequencies |u|, |v| ≤ K. Its projection on degrees up to L3 reads all of
the u, since sin θ on the sphere is |sin θ| on the torus, but only |v| ≤ L3: exact are 2K + 1 points in θ and
K + min(K, L3) + 1 in φ, for which the frequencies that wrap around meet none that are read.
"""

from math import log2
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlip.so3 import fourier_coefficients, fourier_projection
from mlip.tensor_products.backend import Backend, Work
from mlip.tensor_products.couplings import Coupling, choose, couples
from mlip.tensor_products.sectors import Sectors, sectors
from mlip.tensor_products.spec import ProductSpec

Algorithm = Literal["direct", "fft"]
Array = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


class GauntFourier(Backend):
    """Product of functions on the sphere by Fourier series on the torus.

    Args:
        spec: What to compute.
        algorithm: `direct`: coefficients and discrete Fourier transform in one real table for each operand and for the
            result, on half of the torus, which is all of the sphere; measured the faster up to L1 = L2 = 16 on a CPU,
            10 to 30 times for degrees up to 6. `fft`: tables of coefficients and padded fast Fourier transforms.

    Raises:
        ConfigError: there is no such algorithm.
    """

    couplings: ClassVar[tuple[Coupling, ...]] = ("gaunt",)
    pointwise: ClassVar[bool] = True

    def __init__(self, spec: ProductSpec, *, algorithm: Algorithm = "direct") -> None:
        super().__init__(spec)
        choose("algorithm", algorithm, get_args(Algorithm))
        self.algorithm = algorithm
        for name, table in zip(_FACTORS, torus_factors(spec), strict=True):
            self.register_constant(name, torch.tensor(table))
        if algorithm == "fft":
            self.sizes = fft_sizes(*spec.l_max)
            signs = _signs(spec)
            self.signals = len(signs.in1)
            for operand, name in enumerate(_SERIES):
                table = _series_table(spec, operand, signs, self.sizes[0])
                self.register_constant(name, torch.tensor(table))

    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        # The transforms of some libraries refuse a batch of none.
        if self.algorithm == "fft" and len(x):
            product = self._on_torus("series_1", x) * self._on_torus("series_2", y)
            return self._projected(product)
        to_1, to_2, back = self.factors(x)
        # A matrix product over rows is faster than one column for each of them.
        second = (y[..., 0] @ to_2.T)[..., None] if y.shape[2] == 1 else to_2 @ y
        return back @ ((to_1 @ x) * second)

    def factors(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first, second, third = (self.constant(name, like) for name in _FACTORS)
        return first, second, third

    def work(self, batch: int, channels: int, channels_in2: int, itemsize: int) -> Work:
        work = super().work(batch, channels, channels_in2, itemsize)
        idle = sum(self.get_buffer(name).numel() for name in _FACTORS) if self.algorithm == "fft" else 0
        return Work(work.flops, work.bytes - itemsize * idle)

    def flops(self, batch: int, channels: int, channels_in2: int) -> int:
        """Additions and multiplications of a forward bare product.

        Fast transforms are counted as usual, 5 N log2 N for N complex numbers and 2.5 N log2 N for N real ones.
        """
        d1, d2, d3 = self.spec.dims
        if self.algorithm == "direct":
            points = len(self.get_buffer("to_torus_1"))
            return batch * points * (2 * d1 * channels + 2 * d2 * channels_in2 + channels + 2 * d3 * channels)
        tables = (self.get_buffer(name) for name in _SERIES)
        total = 2.0 * sum(
            table.numel() * of for table, of in zip(tables, (channels, channels_in2, channels), strict=True)
        )
        theta, phi = self.sizes
        total += self.signals * theta * phi * channels
        l1, l2, l3 = self.spec.l_max
        for highest, of in ((l1, channels), (l2, channels_in2), (min(l1 + l2, l3), channels)):
            transform = 5 * (highest + 1) * theta * log2(theta) + 2.5 * theta * phi * log2(phi)
            total += self.signals * of * transform
        return batch * round(total)

    def _on_torus(self, name: str, operand: Tensor) -> Tensor:
        """Values [batch, channels, signals, θ, φ] of an operand [batch, d, channels]."""
        theta, phi = self.sizes
        series = operand.transpose(1, 2) @ self.constant(name, operand)
        series = torch.view_as_complex(series.unflatten(2, (self.signals, theta, -1, 2)))
        # Columns v that are zero need no transform in θ; the one in φ pads them.
        columns = torch.fft.ifft(series, dim=-2, norm="forward")
        return torch.fft.irfft(columns, n=phi, norm="forward")

    def _projected(self, product: Tensor) -> Tensor:
        """The result [batch, d, channels] of values [batch, channels, signals, θ, φ]."""
        l1, l2, l3 = self.spec.l_max
        columns = torch.fft.rfft(product, norm="forward")[..., : min(l1 + l2, l3) + 1]
        rows = l1 + l2 + 1
        series = torch.fft.fft(columns, dim=-2, norm="forward")[..., :rows, :]
        return (torch.view_as_real(series).flatten(2) @ self.constant("projection", product)).transpose(1, 2)


_FACTORS = ("to_torus_1", "to_torus_2", "from_torus")
_SERIES = ("series_1", "series_2", "projection")


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
    signs = _signs(spec)
    first, second = (signs.lift(operand, _values(spec.l_max[operand], theta, phi), spec) for operand in (0, 1))
    third = signs.lift(2, _weights(l3, highest, theta, phi), spec)
    return _stacked(first), _stacked(second), _stacked(third).T


def fft_sizes(l1: int, l2: int, l3: int) -> tuple[int, int]:
    """Points in θ and φ for fast transforms of a product of degrees l1 and l2 that is projected on degrees up to l3.

    At least those that are exact and those that hold each operand's own frequencies. Fast transforms favour even
    lengths without large factors.
    """
    highest = l1 + l2
    return _even_smooth(2 * highest + 1), _even_smooth(max(highest + min(highest, l3), 2 * max(l1, l2)) + 1)


def _even_smooth(least: int) -> int:
    """The smallest even number from `least` on without prime factors above 7; 1 stays 1."""
    size = least if least == 1 else least + least % 2
    while 210 ** size.bit_length() % size:
        size += 2
    return size


def _signs(spec: ProductSpec) -> Sectors:
    return sectors(spec, lambda l1, l2, l3: couples("gaunt", l1, l2, l3, spec.spin))


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
    u, v = np.arange(-degree, degree + 1), np.arange(-l_max, l_max + 1)
    both = np.exp(-1j * np.outer(theta, u))[:, :, None] + (-1.0) ** v * np.exp(1j * np.outer(theta, u))[:, :, None]
    both[0] = 1.0
    analysis = np.exp(-1j * np.outer(phi, v)) / ((2 * degree + 1) * len(phi))
    table = np.einsum("nuv,tuv,pv->tpn", fourier_projection(l_max, degree), both, analysis, optimize=True).real
    return np.concatenate([table[0].sum(0, keepdims=True), table[1:].reshape(-1, table.shape[2])])


def _series_table(spec: ProductSpec, operand: int, signs: Sectors, theta_count: int) -> Array:
    """Real table between components and complex coefficients (signal, u, v ≥ 0, real or imaginary part).

    For the operands [components, coefficients], u in the order of a transform of `theta_count` points; for the result
    [coefficients, components], u from 0 to K.
    """
    l_max = spec.l_max[operand]
    if operand == 2:
        # The real part of a product of complex numbers.
        table = _folded_projection(l_max, sum(spec.l_max[:2])).conj()
    else:
        table = np.zeros(((l_max + 1) ** 2, theta_count, l_max + 1), dtype=np.complex128)
        table[:, np.arange(-l_max, l_max + 1)] = fourier_coefficients(l_max)[:, :, l_max:]
    real = np.stack([table.real, table.imag], 3).reshape(len(table), -1).T
    stacked = _stacked(signs.lift(operand, real, spec))
    return stacked if operand == 2 else stacked.T


def _folded_projection(l_max: int, degree: int) -> ComplexArray:
    """Projection from u, v ≥ 0 alone: the coefficients at (−u, v) are (−1)^v times, at (−u, −v) conjugate to those."""
    columns = slice(l_max, l_max + min(degree, l_max) + 1)
    whole = fourier_projection(l_max, degree)[:, :, columns]
    folded = whole[:, degree:].copy()
    folded[:, 1:] += (-1.0) ** np.arange(whole.shape[2]) * whole[:, :degree][:, ::-1]
    folded[:, :, 1:] *= 2
    return folded
