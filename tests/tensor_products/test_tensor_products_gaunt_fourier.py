"""Gaunt products by Fourier series, directly and by fast transforms."""

from typing import ClassVar

from mlip.testing import TensorProductConformance


class TestDirect(TensorProductConformance):
    backend = "gaunt_fourier"


class TestFFT(TensorProductConformance):
    backend = "gaunt_fourier"
    options: ClassVar = {"algorithm": "fft"}
