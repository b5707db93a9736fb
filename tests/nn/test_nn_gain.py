"""Gains of products and powers against exact moments of normal numbers, by Isserlis' theorem."""

from collections import Counter

import numpy as np
import pytest
from e3nn.o3 import Irrep

from mlip.nn.gain import power_gain, product_gain
from mlip.so3 import gaunt
from mlip.tensor_products import ProductSpec


def natural(l_max: int) -> tuple[Irrep, ...]:
    return tuple(Irrep(degree, (-1) ** degree) for degree in range(l_max + 1))


def gaunt_tensor(l1: int, l2: int, l3: int) -> np.ndarray:
    """Gaunt integrals of all degrees up to the given ones."""
    return ProductSpec(natural(l1), natural(l2), natural(l3), "gaunt", "none").tensor()


def power_tensor(l_max: int, order: int, highest: int) -> np.ndarray:
    """Integrals of products of `order` harmonics with one more, by nested products that lose no degree."""
    tensor = np.eye((l_max + 1) ** 2)
    for done in range(1, order):
        last = done == order - 1
        step = gaunt_tensor(done * l_max, l_max, highest if last else (done + 1) * l_max)
        tensor = np.einsum("...a,abc->...bc", tensor, step)
    return tensor[..., : (highest + 1) ** 2]


def normal_moment(variables: tuple[int, ...]) -> float:
    """Mean of a product of independent standard normal numbers."""
    moment = 1.0
    for power in Counter(variables).values():
        moment *= 0.0 if power % 2 else np.prod(np.arange(power - 1, 0, -2), initial=1.0)
    return float(moment)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_powers_have_variance_one(order: int) -> None:
    l_max = 1
    highest = 1 if order == 1 else 2
    outputs = natural(highest)
    tensor = power_tensor(l_max, order, highest) * power_gain(l_max, order, outputs)
    terms = [(index, tensor[index]) for index in np.ndindex(*tensor.shape[:-1])]
    second = sum(a * b * normal_moment(i + j) for i, a in terms for j, b in terms)
    np.testing.assert_allclose(second, 1.0, rtol=1e-12)


def test_products_have_variance_one() -> None:
    irreps = (Irrep("0e"), Irrep("1o"), Irrep("1e"), Irrep("2e"), Irrep("1o"))
    for coupling in ("clebsch_gordan", "gaunt", "gaunt+bracket", "matrix"):
        spec = ProductSpec(irreps, natural(2), irreps, coupling, "none")
        scaled = spec.tensor() * product_gain(spec)
        np.testing.assert_allclose((scaled**2).sum((0, 1)), 1.0, rtol=1e-12)


def test_the_power_of_two_is_the_product_with_itself() -> None:
    assert np.allclose(power_tensor(2, 2, 2), gaunt_tensor(2, 2, 2))
    assert np.isclose(power_tensor(1, 3, 1)[0, 0, 0, 0], gaunt(0, 0, 0)[0, 0, 0] ** 2)
