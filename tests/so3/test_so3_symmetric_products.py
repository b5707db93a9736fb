"""Symmetric product bases: dimension by characters, orthonormality, equivariance, and symmetrised products of e3nn."""

from collections import Counter
from math import factorial, prod

import numpy as np
import pytest
import torch
from e3nn import o3

from mlip.errors import ConfigError
from mlip.so3 import SymmetricBasis, symmetric_product_basis, wigner_3j

CASES = [
    (l_max, correlation, irrep)
    for l_max in range(4)
    for correlation in range(1, 5)
    for irrep in ("0e", "0o", "1o", "1e", "2e", "2o", "3o")
]


def dimension_by_characters(l_max: int, correlation: int, irrep: o3.Irrep) -> int:
    """Multiplicity of the irrep in Sym^correlation(V): the mean over O(3) of the product of the two characters."""
    angles = (np.arange(400) + 0.5) * (2 * np.pi / 400)
    weights = (1 - np.cos(angles)) / 400

    def character(degree: int, angle: np.ndarray) -> np.ndarray:
        return sum(np.cos(order * angle) for order in range(-degree, degree + 1))

    total = 0.0
    for inversion in (1, -1):
        # Newton's identities: n h_n = Σ_k p_k h_{n−k}, with p_k the character of V at the k-th power of the element.
        powers = [
            sum(inversion ** (degree * k) * character(degree, k * angles) for degree in range(l_max + 1))
            for k in range(1, correlation + 1)
        ]
        symmetric = [np.ones_like(angles)]
        for n in range(1, correlation + 1):
            symmetric.append(sum(powers[k - 1] * symmetric[n - k] for k in range(1, n + 1)) / n)
        sign = irrep.p if inversion == -1 else 1
        total += 0.5 * float(weights @ (symmetric[-1] * sign * character(irrep.l, angles)))
    assert total == pytest.approx(round(total), abs=1e-8)
    return round(total)


def multiplicities(basis: SymmetricBasis) -> np.ndarray:
    return np.array(
        [factorial(len(row)) // prod(factorial(n) for n in Counter(row).values()) for row in basis.monomials.tolist()]
    )


def evaluate(basis: SymmetricBasis, features: np.ndarray) -> np.ndarray:
    """B [P, 2l + 1] of A [(l_max + 1)²]."""
    return basis.coefficients @ features[basis.monomials].prod(axis=1)


@pytest.mark.parametrize(("l_max", "correlation", "irrep"), CASES)
def test_dimension_orthonormality_and_form(l_max: int, correlation: int, irrep: str) -> None:
    basis = symmetric_product_basis(l_max, correlation, irrep)
    size, components, count = basis.coefficients.shape
    assert size == dimension_by_characters(l_max, correlation, o3.Irrep(irrep))
    assert components == o3.Irrep(irrep).dim
    assert basis.monomials.shape == (count, correlation)
    assert (np.diff(basis.monomials, axis=1) >= 0).all()
    assert len(np.unique(basis.monomials, axis=0)) == count
    assert basis.coefficients.any(axis=(0, 1)).all()
    gram = np.einsum("pkm,qkm->pq", basis.coefficients / multiplicities(basis), basis.coefficients, optimize=True)
    np.testing.assert_allclose(gram, components * np.eye(size), rtol=0, atol=1e-12)


@pytest.mark.usefixtures("e3nn_in_double")
@pytest.mark.parametrize(
    ("l_max", "correlation", "irrep"),
    [(3, 1, "2e"), (2, 2, "1o"), (3, 3, "2o"), (3, 3, "0e"), (3, 3, "1o"), (3, 3, "2e"), (2, 4, "1e"), (3, 4, "3o")],
)
def test_equivariance_under_rotations_and_inversion(l_max: int, correlation: int, irrep: str) -> None:
    basis = symmetric_product_basis(l_max, correlation, irrep)
    features = np.random.default_rng(0).normal(size=(l_max + 1) ** 2)
    generator = torch.Generator().manual_seed(0)
    assert len(basis.coefficients)
    for inversion in (1, -1):
        angles = torch.rand(3, generator=generator, dtype=torch.float64) * 3
        matrix = inversion * o3.angles_to_matrix(*angles)
        turn_in = o3.Irreps.spherical_harmonics(l_max).D_from_matrix(matrix).numpy()
        turn_out = o3.Irreps(irrep).D_from_matrix(matrix).numpy()
        expected = evaluate(basis, features) @ turn_out.T
        np.testing.assert_allclose(evaluate(basis, turn_in @ features), expected, rtol=0, atol=1e-11)


def test_products_of_two_are_wigner_3j_contractions() -> None:
    features = np.random.default_rng(1).normal(size=9)
    values = evaluate(symmetric_product_basis(2, 2, "1o"), features)
    # Degrees (0, 1) and (1, 2), in this order: √2 symmetrises, √3 turns the unit 3j into unit components.
    dipole = features[1:4]
    first = np.sqrt(6) * np.einsum("abk,a,b->k", wigner_3j(0, 1, 1), features[:1], dipole)
    second = np.sqrt(6) * np.einsum("abk,a,b->k", wigner_3j(1, 2, 1), dipole, features[4:])
    np.testing.assert_allclose(values, [first, second], atol=1e-14)


@pytest.mark.usefixtures("e3nn_in_double")
def test_every_equivariant_polynomial_is_in_the_span() -> None:
    # An equivariant polynomial made another way: couple (A ⊗ A) ⊗ A by e3nn through random weights.
    v = o3.Irreps.spherical_harmonics(2)
    generator = torch.Generator().manual_seed(3)
    pair = o3.FullyConnectedTensorProduct(v, v, "2x0e+2x1o+2x1e+2x2e+2x2o+2x3o", shared_weights=True)
    triple = o3.FullyConnectedTensorProduct(pair.irreps_out, v, "1o", shared_weights=True)
    for module in (pair, triple):
        module.weight.data = torch.randn(module.weight.shape, generator=generator)
    features = torch.randn(200, 9, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        targets = triple(pair(features, features), features).numpy()
    basis = symmetric_product_basis(2, 3, "1o")
    design = np.stack([evaluate(basis, row) for row in features.numpy()])
    design = design.transpose(0, 2, 1).reshape(600, -1)
    weights, *_ = np.linalg.lstsq(design, targets.reshape(-1), rcond=None)
    assert np.abs(targets).max() > 1
    np.testing.assert_allclose(design @ weights, targets.reshape(-1), rtol=0, atol=1e-11)


def test_order_and_signs_are_pinned() -> None:
    # State dicts depend on these: a change of either breaks every stored model.
    basis = symmetric_product_basis(3, 3, "0e")
    features = np.linspace(-1, 1, 16)
    expected = [
        -1.0,
        -1.64888888888889,
        -0.292625408380116,
        -1.97559929960318,
        -0.542065775255681,
        -0.18305875395819,
        0.00437583542841533,
        -0.129310869954689,
    ]
    np.testing.assert_allclose(evaluate(basis, features)[:, 0], expected, rtol=1e-12)
    values = evaluate(symmetric_product_basis(3, 4, "2e"), features)
    assert np.arange(values.size) @ values.ravel() == pytest.approx(662.855825449836, rel=1e-11)


def test_no_map_is_an_empty_basis() -> None:
    basis = symmetric_product_basis(2, 1, "3o")
    assert basis.coefficients.shape == (0, 7, 0)
    assert basis.monomials.shape == (0, 1)


def test_result_is_cached_and_read_only() -> None:
    basis = symmetric_product_basis(2, 3, "1o")
    assert symmetric_product_basis(2, 3, o3.Irrep("1o")) is basis
    with pytest.raises(ValueError, match="read-only"):
        basis.coefficients[0] = 0


@pytest.mark.parametrize(("l_max", "correlation"), [(-1, 2), (2, 0)])
def test_wrong_arguments_are_refused(l_max: int, correlation: int) -> None:
    with pytest.raises(ConfigError, match="choose"):
        symmetric_product_basis(l_max, correlation, "0e")
