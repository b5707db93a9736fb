"""Backend `clebsch_gordan`: the sum over the paths of any coupling, written out, by one of three algorithms."""

from mlip.tensor_products.clebsch_gordan.backend import ClebschGordan

__all__ = ["ClebschGordan"]
