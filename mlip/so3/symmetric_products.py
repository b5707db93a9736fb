"""Equivariant polynomials: bases of the O(3)-equivariant maps from a symmetric power to one irrep.

The variables are A ∈ V = ⊕_{l ≤ l_max} (degree l, parity (−1)^l), numbered 0 … (l_max + 1)² − 1. A polynomial of
degree ν in them splits by the multiset of degrees (l1 ≤ … ≤ lν) of its monomials, and for one multiset

    Sym = ⊗_l Sym^{n_l}(V_l),    n_l the number of times that l occurs.

Factors of different degree share no variable, so that Clebsch-Gordan coupling of orthonormal bases of the factors is
an orthonormal basis of the product. Within one degree, Sym^n(V_l) follows from Sym^{n−1}(V_l) ⊗ V_l by Gram-Schmidt
over the coupling paths in a fixed order: no eigensolver enters, so that order and signs are the same on every machine.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement, product
from math import comb, factorial, prod, sqrt
from typing import NamedTuple

import numpy as np
from e3nn.o3 import Irrep

from mlip.errors import ConfigError
from mlip.so3.arrays import read_only
from mlip.so3.couplings import wigner_3j

# What Gram-Schmidt leaves of a linearly dependent unit vector is rounding, about 1e-15; of a new one, above 1e-2.
_DEPENDENT = 1e-8
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class SymmetricBasis:
    """Basis B_pk(A) = Σ_m coefficients[p, k, m] · Π_j A[monomials[m, j]] of P equivariant polynomials.

    Attributes:
        monomials: int64 `[M, correlation]`, variables in ascending order, rows grouped by multiset of degrees; each
            has a non-zero coefficient somewhere.
        coefficients: float64 `[P, 2l + 1, M]`, orthonormal: with T_pk the symmetric tensor of B_pk (an entry is the
            coefficient over the multiplicity of its monomial), Σ_k ⟨T_pk, T_qk⟩ = (2l + 1) δ_pq.
    """

    monomials: np.ndarray
    coefficients: np.ndarray


def symmetric_product_basis(l_max: int, correlation: int, irrep: Irrep | str) -> SymmetricBasis:
    """Complete, non-redundant, orthonormal basis of the equivariant maps Sym^correlation(V) → irrep.

    Args:
        l_max: highest degree in V, the sum of the degrees 0 … l_max with parity (−1)^l, in e3nn's order.
        correlation: degree ν of the polynomials, at least 1.
        irrep: an e3nn irrep such as "0e", "1o" or "1e".

    Returns:
        the basis, with P = 0 and M = 0 where no such map exists. It is cached; its arrays are read-only.

    Raises:
        ConfigError: l_max is negative or correlation is below 1.
    """
    if l_max < 0:
        raise ConfigError(f"The highest degree of a symmetric product is {l_max}: choose 0 or more.")
    if correlation < 1:
        raise ConfigError(f"The correlation of a symmetric product is {correlation}: choose 1 or more.")
    return _symmetric_product_basis(l_max, correlation, Irrep(irrep))


class _Map(NamedTuple):
    """An orthonormal equivariant polynomial: coefficients `[2 degree + 1, M]` on monomials known from the context."""

    degree: int
    coefficients: np.ndarray


@cache
def _symmetric_product_basis(l_max: int, correlation: int, irrep: Irrep) -> SymmetricBasis:
    monomials = [np.zeros((0, correlation), dtype=np.int64)]
    blocks: list[np.ndarray] = []
    for degrees in combinations_with_replacement(range(l_max + 1), correlation):
        maps = _multiset_maps(degrees, irrep.l) if (-1) ** sum(degrees) == irrep.p else []
        if maps:
            block = np.stack([entry.coefficients for entry in maps])
            block[np.abs(block) < _ROUNDING] = 0.0
            used = block.any(axis=(0, 1))
            monomials.append(_multiset_monomials(degrees)[used])
            blocks.append(block[:, :, used])
    coefficients = np.zeros((sum(map(len, blocks)), 2 * irrep.l + 1, sum(map(len, monomials))))
    row = column = 0
    for block in blocks:
        next_row, next_column = row + block.shape[0], column + block.shape[2]
        coefficients[row:next_row, :, column:next_column] = block
        row, column = next_row, next_column
    return SymmetricBasis(read_only(np.concatenate(monomials)), read_only(coefficients))


def _multiset_maps(degrees: tuple[int, ...], target: int) -> list[_Map]:
    """All maps of one multiset of degrees to the target degree, by coupling the powers of its distinct degrees."""
    maps = [_Map(0, np.ones((1, 1)))]
    factors = Counter(degrees)
    order = 0
    for degree, power in factors.items():
        order += power
        # The multiplicity of a product of monomials in disjoint variables is this times the product of theirs.
        scale = sqrt(comb(order, power))
        outputs = (target,) if order == len(degrees) else range(order * max(degrees) + 1)
        maps = [
            _Map(output, scale * _couple(left, right, output).reshape(2 * output + 1, -1))
            for left in maps
            for right in _symmetric_power(degree, power)
            for output in outputs
            if abs(left.degree - right.degree) <= output <= left.degree + right.degree
        ]
    return maps


def _multiset_monomials(degrees: tuple[int, ...]) -> np.ndarray:
    """Monomials `[M, ν]` of one multiset of degrees, in the order of the coefficients of `_multiset_maps`."""
    factors = [
        combinations_with_replacement(range(degree**2, (degree + 1) ** 2), power)
        for degree, power in Counter(degrees).items()
    ]
    return np.array([sum(parts, ()) for parts in product(*factors)], dtype=np.int64)


@cache
def _symmetric_power(degree: int, power: int) -> list[_Map]:
    """Orthonormal maps Sym^power(V_degree) → every degree, ascending, on sorted monomials of the 2l + 1 variables."""
    size = 2 * degree + 1
    if power == 1:
        return [_Map(degree, np.eye(size))]
    monomials = list(combinations_with_replacement(range(size), power))
    column = {monomial: index for index, monomial in enumerate(monomials)}
    parents = combinations_with_replacement(range(size), power - 1)
    merged = [column[tuple(sorted((*parent, variable)))] for parent in parents for variable in range(size)]
    root_multiplicities = np.sqrt([multiplicity(monomial) for monomial in monomials])
    symmetriser = np.eye(len(monomials))[merged] / root_multiplicities
    variables = _Map(degree, np.eye(size))
    maps = []
    for output in range(power * degree + 1):
        independent: list[np.ndarray] = []
        for parent in _symmetric_power(degree, power - 1):
            if abs(parent.degree - degree) <= output <= parent.degree + degree:
                candidate = _couple(parent, variables, output).reshape(2 * output + 1, -1) @ symmetriser
                # Projecting twice leaves no component of the earlier maps beyond rounding.
                for earlier in independent * 2:
                    candidate -= np.vdot(earlier, candidate) / (2 * output + 1) * earlier
                norm = np.linalg.norm(candidate) / sqrt(2 * output + 1)
                if norm > _DEPENDENT:
                    independent.append(candidate / norm)
        maps += [_Map(output, candidate * root_multiplicities) for candidate in independent]
    return maps


def _couple(left: _Map, right: _Map, output: int) -> np.ndarray:
    """Clebsch-Gordan coupling of two maps to degree `output`: coefficients `[2 output + 1, M_left, M_right]`."""
    coupling = sqrt(2 * output + 1) * wigner_3j(left.degree, right.degree, output)
    return np.einsum("abk,am,bn->kmn", coupling, left.coefficients, right.coefficients, optimize=True)


def multiplicity(monomial: tuple[int, ...]) -> int:
    """Number of distinct orderings of the variables of a monomial."""
    return factorial(len(monomial)) // prod(factorial(count) for count in Counter(monomial).values())
