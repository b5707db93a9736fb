"""Our backends pass the suite that others inherit."""

from typing import ClassVar

from mlip.testing import TensorProductConformance
from mlip.testing.tensor_products import FEW_IRREPS


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


class TestCPExact(TensorProductConformance):
    backend = "cp"
    options: ClassVar = {"rank": "exact"}
    tolerance = 1e-10


class TestCPTruncated(TensorProductConformance):
    backend = "cp"
    # One term too few for Clebsch-Gordan, whose tensor is 2 % off, and more for matrices, whose is 30 % off.
    options: ClassVar = {"rank": 7, "restarts": 1}
    tolerance = 0.8
    irreps: ClassVar = {"few": FEW_IRREPS}


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
