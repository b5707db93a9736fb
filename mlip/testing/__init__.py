"""Tests that others inherit for what they add to the package; they need pytest."""

try:
    import pytest
except ModuleNotFoundError:
    raise ModuleNotFoundError("mlip.testing needs pytest, which is not installed: install it first.") from None

# Asserts outside of test files explain themselves only where pytest is told of them before the import.
pytest.register_assert_rewrite("mlip.testing.tensor_products")

from mlip.testing.tensor_products import TensorProductConformance  # noqa: E402

__all__ = ["TensorProductConformance"]
