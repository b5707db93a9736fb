"""Equivariant tensor products: which function is the coupling's business, how it is computed the backend's."""

from mlip.tensor_products.backend import Backend, Work, backends
from mlip.tensor_products.measures import expressivity, interactability
from mlip.tensor_products.product import TensorProduct
from mlip.tensor_products.spec import ProductPath, ProductSpec

__all__ = [
    "Backend",
    "ProductPath",
    "ProductSpec",
    "TensorProduct",
    "Work",
    "backends",
    "expressivity",
    "interactability",
]
