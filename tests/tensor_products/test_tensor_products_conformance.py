"""Our backends pass the suite that others inherit."""

from mlip.testing import TensorProductConformance


class TestClebschGordan(TensorProductConformance):
    backend = "clebsch_gordan"
