"""Our backends pass the suite that others inherit."""

from typing import ClassVar

from mlip.testing import TensorProductConformance


class TestClebschGordan(TensorProductConformance):
    backend = "clebsch_gordan"


class TestClebschGordanSparse(TensorProductConformance):
    backend = "clebsch_gordan"
    options: ClassVar = {"algorithm": "sparse"}


class TestClebschGordanDense(TensorProductConformance):
    backend = "clebsch_gordan"
    options: ClassVar = {"algorithm": "dense"}


class TestClebschGordanEdgeMatrix(TensorProductConformance):
    backend = "clebsch_gordan"
    options: ClassVar = {"algorithm": "edge_matrix"}


class TestGauntFourierDirect(TensorProductConformance):
    backend = "gaunt_fourier"
    options: ClassVar = {"algorithm": "direct"}


class TestGauntFourierFast(TensorProductConformance):
    backend = "gaunt_fourier"
    options: ClassVar = {"algorithm": "fft"}


class TestSphericalGridDense(TensorProductConformance):
    backend = "spherical_grid"
    options: ClassVar = {"transform": "dense"}


class TestSphericalGridSeparable(TensorProductConformance):
    backend = "spherical_grid"
    options: ClassVar = {"transform": "separable"}


class TestSpinMatrix(TensorProductConformance):
    backend = "matrix"
