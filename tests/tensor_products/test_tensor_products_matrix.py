"""Products of spin matrices."""

from mlip.testing import TensorProductConformance


class TestSpinMatrix(TensorProductConformance):
    backend = "matrix"
