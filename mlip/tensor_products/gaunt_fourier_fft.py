"""Fast Fourier transforms between features and their values on the torus."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log2

import numpy as np
import torch
from e3nn.o3 import Irrep
from numpy.typing import NDArray
from torch import Tensor

from mlip.so3 import fourier_coefficients, fourier_projection
from mlip.tensor_products.sectors import sectors
from mlip.tensor_products.spec import ProductSpec


@dataclass(frozen=True, eq=False)
class SeriesTable:
    """Fourier coefficients of an operand's components, each of which has a single column v = |m| ≥ 0.

    In a column the real and the imaginary part of the coefficients are sums over entries, of one component each: an
    entry's cosine feeds one part and its sine the other. A slot (column, part, entry) names that component.

    Attributes:
        coefficients: float64 [columns · 2, entries, signals · θ], frequencies u in the order of a transform; zero in an
            empty slot.
        slots: Component in each slot, any in an empty one, int64 [columns · 2 · entries].
        places: Slot of each component, an empty one if its column is not there, int64 [components].
    """

    coefficients: NDArray[np.float64]
    slots: NDArray[np.int64]
    places: NDArray[np.int64]


class FastTransform:
    """A small matrix for each column of Fourier coefficients, a complex transform in θ, and a real one in φ.

    Values are [batch, signals · θ · φ, channels], in memory one channel after another.

    Args:
        coefficients: As in `SeriesTable`.
        slots: As in `SeriesTable`.
        places: As in `SeriesTable`.
        shape: Signals, points in θ and points in φ.
    """

    def __init__(self, coefficients: Tensor, slots: Tensor, places: Tensor, shape: tuple[int, int, int]) -> None:
        signals, theta, phi = shape
        self.components = len(places)
        self.rows = signals * theta * phi
        self._columns = len(coefficients) // 2
        self._coefficients = coefficients
        self._slots = slots
        self._places = places
        self._shape = shape

    def to_grid(self, operand: Tensor, memory: Tensor) -> Tensor:
        """Values of an operand [batch, components, channels], in memory of their own."""
        batch, _, channels = operand.shape
        if not batch:
            # The transforms of some libraries refuse a batch of none.
            return operand.new_empty(0, self.rows, channels)
        signals, theta, phi = self._shape
        entries = operand.transpose(0, 1).index_select(0, self._slots).view(2 * self._columns, -1, batch * channels)
        series = torch.bmm(entries.transpose(1, 2), self._coefficients)
        series = series.view(self._columns, 2, batch * channels, signals, theta).permute(2, 3, 4, 0, 1).contiguous()
        # Further columns are zero and need no transform in θ; the one in φ pads them.
        waves = torch.fft.ifft(torch.view_as_complex(series), dim=-2, norm="forward")
        return torch.fft.irfft(waves, n=phi, norm="forward").view(batch, channels, -1).transpose(1, 2)

    def from_grid(self, values: Tensor, result: Tensor, add: bool) -> None:
        """Write the transpose of values, or add it, to a result [batch, components, channels]."""
        batch, _, channels = values.shape
        if not batch:
            return
        waves = torch.fft.rfft(values.transpose(1, 2).unflatten(2, self._shape))[..., : self._columns]
        series = torch.view_as_real(torch.fft.fft(waves, dim=-2)).flatten(2, 3).flatten(0, 1).permute(2, 3, 0, 1)
        entries = torch.bmm(self._transposed, series.flatten(0, 1).transpose(1, 2)).view(-1, batch, channels)
        transposed = entries.index_select(0, self._places).transpose(0, 1)
        if add:
            result.add_(transposed)
        else:
            result.copy_(transposed)

    def table(self) -> Tensor:
        """The map as a matrix, [rows, components]."""
        unit = torch.eye(self.components, dtype=self._coefficients.dtype, device=self._coefficients.device)
        return self.to_grid(unit[:, :, None], unit)[:, :, 0].T

    def flops(self, channels: int) -> int:
        """Additions and multiplications of either direction for one row of the batch.

        Transforms are counted as usual: 5 N log2 N for N complex numbers, 2.5 N log2 N for N real ones.
        """
        signals, theta, phi = self._shape
        transforms = 5 * self._columns * theta * log2(theta) + 2.5 * theta * phi * log2(phi)
        return channels * (2 * self._coefficients.numel() + round(signals * transforms))

    @cached_property
    def _transposed(self) -> Tensor:
        """Coefficients where a column v > 0 stands for −v as well: a real function has conjugate ones there."""
        twice = self._coefficients.new_full((len(self._coefficients), 1, 1), 2.0)
        twice[:2] = 1.0
        return self._coefficients * twice


def fft_sizes(l1: int, l2: int, l3: int) -> tuple[int, int]:
    """Points in θ and φ for fast transforms of a product of degrees l1 and l2 that is projected on degrees up to l3.

    At least those that are exact and those that hold each operand's own frequencies. Fast transforms favour even
    lengths without large factors.
    """
    highest = l1 + l2
    return _even_smooth(2 * highest + 1), _even_smooth(max(highest + min(highest, l3), 2 * max(l1, l2)) + 1)


def series_tables(spec: ProductSpec, sizes: tuple[int, int]) -> tuple[list[SeriesTable], int]:
    """Tables of both operands and of the result, whose transposed transform projects, and the number of signals."""
    l1, l2, l3 = spec.l_max
    highest = l1 + l2
    projection = fourier_projection(l3, highest)[:, :, l3 : l3 + min(highest, l3) + 1]
    # A function on the sphere has (−1)^v times the same coefficients at −u: of the projection only that part counts.
    mirrored = (-1.0) ** np.arange(projection.shape[2]) * projection[:, ::-1]
    # The real part of a product of complex numbers is a scalar product with the conjugate.
    projection = (projection + mirrored).conj() / (2 * sizes[0] * sizes[1])
    series = [*(fourier_coefficients(l_max)[:, :, l_max:] for l_max in (l1, l2)), projection]
    signs = sectors(spec, lambda *degrees: sum(degrees) % 2 == 0)
    tables = [
        _series_table(irreps, of_signals, _padded(coefficients, sizes[0]))
        for irreps, of_signals, coefficients in zip(
            spec.operands, (signs.in1, signs.in2, signs.out), series, strict=True
        )
    ]
    return tables, len(signs.in1)


def _padded(coefficients: NDArray[np.complex128], theta: int) -> NDArray[np.complex128]:
    """Coefficients [harmonics, u = −U … U, v] in the order of a transform of `theta` points."""
    highest = coefficients.shape[1] // 2
    padded = np.zeros((len(coefficients), theta, coefficients.shape[2]), dtype=np.complex128)
    padded[:, np.arange(-highest, highest + 1)] = coefficients
    return padded


def _series_table(
    irreps: Sequence[Irrep], signs: NDArray[np.float64], coefficients: NDArray[np.complex128]
) -> SeriesTable:
    """Table of entries from coefficients of harmonics [(L + 1)², θ, columns] and signs [signals, components]."""
    _, theta, columns = coefficients.shape
    shape = (columns, 2, len(irreps))
    table = np.zeros((*shape, len(signs), theta))
    slots = np.zeros(shape, dtype=np.int64)
    # No component has an imaginary coefficient in the column v = 0.
    places = np.full(signs.shape[1], np.ravel_multi_index((0, 1, 0), shape))
    component = 0
    for entry, irrep in enumerate(irreps):
        for m in range(-irrep.l, irrep.l + 1):
            if abs(m) < columns:
                series = coefficients[irrep.l**2 + irrep.l + m, :, abs(m)]
                # One of the parts is zero.
                part = int(np.abs(series.imag).max() > np.abs(series.real).max())
                slot = (abs(m), part, entry)
                table[slot] = np.outer(signs[:, component], series.imag if part else series.real)
                slots[slot] = component
                places[component] = np.ravel_multi_index(slot, shape)
            component += 1
    return SeriesTable(table.reshape(2 * columns, len(irreps), -1), slots.reshape(-1), places)


def _even_smooth(least: int) -> int:
    """The smallest even number from `least` on without prime factors above 7; 1 stays 1."""
    size = least if least == 1 else least + least % 2
    while 210 ** size.bit_length() % size:
        size += 2
    return size
