"""Factors that give products of normal features components of variance one, whatever their degree.

The couplings of a Gaunt or matrix product differ in size from path to path, so that without them the features of a deep
network drift with degree.
"""

from math import comb, factorial, pi

import numpy as np
from e3nn.o3 import Irrep
from numpy.typing import NDArray

from mlip.tensor_products import ProductSpec


def product_gain(spec: ProductSpec) -> NDArray[np.float64]:
    """Factor of each component of the bare product of operands whose components have variance one, [dims[2]].

    The variance of a component of the result is the sum over its paths of `|coefficients|^2 / (2 l3 + 1)`.
    """
    variances = np.zeros(len(spec.irreps_out))
    for path in spec.paths:
        variances[path.out] += np.sum(spec.coefficients(path) ** 2) / path.irrep_out.dim
    return np.repeat(variances**-0.5, [irrep.dim for irrep in spec.irreps_out])


def power_gain(l_max: int, order: int, irreps_out: tuple[Irrep, ...]) -> NDArray[np.float64]:
    """Factor of each component of `∫ f(r)^order Y(r) dr`, with `f = sum over l <= l_max of A_lm Y_lm` and A normal.

    f is a Gaussian process on the sphere with variance (l_max + 1)²/4π and correlation ρ(cos γ) = Σ (2 l + 1) P_l /
    (l_max + 1)². Powers of two correlated normal numbers have E[f^ν f'^ν] = Σ_k C(ν, k)² k! ((ν − k − 1)!!)² ρ^k over k
    of the parity of ν, whose Legendre coefficients are the variances.
    """
    size = (l_max + 1) ** 2
    nodes, weights = np.polynomial.legendre.leggauss(order * l_max // 2 + l_max + 2 + max(i.l for i in irreps_out))
    correlation = np.polynomial.legendre.legval(nodes, 2 * np.arange(l_max + 1) + 1) / size
    moments = sum(
        comb(order, k) ** 2 * factorial(k) * _double_factorial(order - k - 1) ** 2 * correlation**k
        for k in range(order % 2, order + 1, 2)
    )
    gains = []
    for irrep in irreps_out:
        legendre = np.polynomial.legendre.legval(nodes, np.eye(irrep.l + 1)[irrep.l])
        variance = 2 * pi * np.sum(weights * moments * legendre) * (size / (4 * pi)) ** order
        gains += [variance**-0.5] * irrep.dim
    return np.array(gains)


def _double_factorial(number: int) -> int:
    return number * _double_factorial(number - 2) if number > 1 else 1
