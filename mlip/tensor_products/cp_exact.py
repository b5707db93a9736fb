"""Exact CP decompositions: tables of fits that ship with the package, and those known in closed form.

`cp_tables/exact.safetensors` holds the Clebsch-Gordan tensor of all degrees up to (L1, L2, L3), 1 ≤ L1 ≤ L2 ≤ L3 ≤ 4,
that satisfy the triangle inequality, with all paths and with those of an even sum of degrees; `truncated.safetensors`
holds decompositions of lower rank. `scripts/make_cp_tables.py` made both.
"""

from dataclasses import replace
from functools import cache
from importlib.resources import as_file, files

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from mlip.so3 import sphere_grid, spherical_harmonics, spherical_harmonics_with_gradients, wigner_3j
from mlip.tensor_products.cp_fit import CPFactors, balanced
from mlip.tensor_products.cp_target import CPTarget

HIGHEST_DEGREE = 4
# Relative error up to which a decomposition counts as exact; the shipped ones reach 1e-12.
EXACT = 1e-10

_Factors = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def exact_target(target: CPTarget) -> CPTarget:
    """The tensor whose exact decomposition serves a target: the same, of spin matrices with its odd sums of degrees.

    A product of matrices has no decomposition in closed form without its commutator.
    """
    return replace(target, even_only=False) if target.coupling == "matrix" else target


def exact_factors(target: CPTarget) -> CPFactors | None:
    """The exact decomposition of a target made by `exact_target` with the lowest rank known, None where there is none.

    There is one for every target but Clebsch-Gordan couplings of degrees above HIGHEST_DEGREE.
    """
    factors: _Factors | None
    if 0 in target.coupled_l_max:
        factors = _one_by_one(target)
    elif target.coupling == "clebsch_gordan":
        factors = _from_table(target)
    elif target.coupling == "matrix":
        factors = _matrix_product(target)
    else:
        factors = _on_the_sphere(target)
    return None if factors is None else _restricted(target, factors)


def shipped_factors(target: CPTarget, rank: int) -> CPFactors | None:
    """The shipped decomposition of a rank that is too low to be exact, None where there is none."""
    l_max = max(target.l_max)
    everything = tuple(range(l_max + 1))
    if target.coupling != "clebsch_gordan" or any(degrees != everything for degrees in target.degrees):
        return None
    stored = _stored("truncated", f"{_kind(target)}.{l_max}.{rank}")
    return None if stored is None else _restricted(target, stored)


def _from_table(target: CPTarget) -> _Factors | None:
    """The table of the smallest degrees that hold the target's, its operands exchanged as they stand in the target."""
    degrees = target.coupled_l_max
    order = tuple(int(place) for place in np.argsort(degrees, kind="stable"))
    name = "".join(str(degrees[place]) for place in order)
    stored = _stored("exact", f"{_kind(target)}.{name}")
    if stored is None:
        return None
    rank = stored[0].shape[1]
    first, second, third = (np.zeros(((degree + 1) ** 2, rank)) for degree in target.l_max)
    factors = first, second, third
    # An odd permutation of the operands multiplies a 3j tensor by (−1)^(l1+l2+l3).
    odd = order in [(0, 2, 1), (1, 0, 2), (2, 1, 0)]
    for place, factor in zip(order, stored, strict=True):
        factors[place][: len(factor)] = _signs(degrees[place])[:, None] * factor if odd else factor
    return factors


def _one_by_one(target: CPTarget) -> _Factors:
    """A term for each coefficient: with scalars, component m of one operand couples to component m of another only."""
    entries = np.nonzero(target.tensor)
    first, second, third = (np.eye(size)[:, places] for size, places in zip(target.tensor.shape, entries, strict=True))
    return first * target.tensor[entries], second, third


def _matrix_product(target: CPTarget) -> _Factors:
    """`tr(B3ᵀ B1 B2)` as the sum over p, q, r of `B1[p, q] B2[q, r] B3[p, r]`: rank (2 spin + 1)³."""
    size = 2 * target.spin + 1
    bases = []
    for l_max in target.l_max:
        degrees = [(2 * degree + 1) ** 0.5 * wigner_3j(target.spin, target.spin, degree) for degree in range(l_max + 1)]
        bases.append(np.concatenate(degrees, axis=2))
    p, q, r = (index.ravel() for index in np.indices((size, size, size)))
    return bases[0][p, q].T, bases[1][q, r].T, bases[2][p, r].T


def _on_the_sphere(target: CPTarget) -> _Factors:
    """Quadrature of `Y1 Y2 Y3` and of `r̂·(∇Y1 × ∇Y2) Y3`: each node gives one term, and two terms."""
    l1, l2, l3 = target.l_max
    parts: list[list[NDArray[np.float64]]] = [[], [], []]
    if target.coupling != "bracket":
        grid = sphere_grid(l1 + l2 + l3)
        nodes = torch.tensor(grid.nodes)
        values = [spherical_harmonics(degree, nodes, "orthonormal").numpy() for degree in target.l_max]
        for part, each in zip(parts, [values[0], values[1], grid.weights[:, None] * values[2]], strict=True):
            part.append(each)
    if target.coupling == "bracket" or (target.coupling == "gaunt+bracket" and not target.even_only):
        # The bracket loses one degree.
        grid = sphere_grid(max(l1 + l2 + l3 - 1, 0))
        nodes = torch.tensor(grid.nodes)
        # With the axis of the grid, never a node, two directions t and r̂ × t complete r̂ to a right-handed frame.
        along = np.cross(grid.nodes, [0.0, 1.0, 0.0])
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        across = np.cross(grid.nodes, along)
        slopes = []
        for degree in (l1, l2):
            gradient = spherical_harmonics_with_gradients(degree, nodes, "orthonormal")[1].numpy()
            slopes.append([np.einsum("nix,nx->ni", gradient, direction) for direction in (along, across)])
        weighted = grid.weights[:, None] * spherical_harmonics(l3, nodes, "orthonormal").numpy()
        parts[0] += [slopes[0][0], slopes[0][1]]
        parts[1] += [slopes[1][1], -slopes[1][0]]
        parts[2] += [weighted, weighted]
    a, b, c = (np.concatenate(part).T for part in parts)
    return a, b, c


def _restricted(target: CPTarget, factors: _Factors) -> CPFactors:
    """Factors of the degrees that occur, without terms that vanish for them."""
    kept = [factor * target.present(operand)[:, None] for operand, factor in enumerate(factors)]
    alive = np.logical_and.reduce([np.abs(factor).max(0) > 1e-13 * np.abs(factor).max() for factor in kept])
    a, b, c = (factor[:, alive] for factor in kept)
    return balanced(target.tensor, CPFactors(a, b, c, error=0.0))


def _kind(target: CPTarget) -> str:
    return "even" if target.even_only else "full"


def _signs(l_max: int) -> NDArray[np.float64]:
    """(−1)^l of every component of degrees 0 … l_max."""
    return np.concatenate([np.full(2 * degree + 1, (-1.0) ** degree) for degree in range(l_max + 1)])


@cache
def _stored(table: str, name: str) -> _Factors | None:
    """Factors in one of the shipped tables, None where they are not there."""
    resource = files("mlip.tensor_products") / "cp_tables" / f"{table}.safetensors"
    with as_file(resource) as path, safe_open(path, framework="np") as file:
        if f"{name}.a" not in file.keys():  # noqa: SIM118 (no mapping)
            return None
        a, b, c = (file.get_tensor(f"{name}.{factor}") for factor in "abc")
    return a, b, c
