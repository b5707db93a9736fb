"""Expressivity and interactability against counts of paths and the rank of their incidence with the entries."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from mlip.so3 import matrix_coupling
from mlip.tensor_products import TensorProduct, expressivity, interactability

Triple = tuple[int, int, int]


def allowed(l_max: int, l_out: int, parity: str) -> set[Triple]:
    """Degrees that satisfy the triangle inequality and whose sum is even, odd, or either."""
    sums = {"even": (0,), "odd": (1,), "mixed": (0, 1)}[parity]
    return {
        (a, b, c)
        for a in range(l_max + 1)
        for b in range(l_max + 1)
        for c in range(abs(a - b), min(a + b, l_out) + 1)
        if (a + b + c) % 2 in sums
    }


def incidence_rank(triples: set[Triple]) -> int:
    """Dimension of the weights log a[l1] + log b[l2] + log c[l3] of the paths, near any weights that are not zero."""
    entries = sorted({(place, degree) for triple in triples for place, degree in enumerate(triple)})
    matrix = [[float(triple[place] == degree) for place, degree in entries] for triple in sorted(triples)]
    return int(np.linalg.matrix_rank(matrix))


def all_even(l_max: int) -> str:
    """SO(3)'s irreps: no parity stands in the way of any path."""
    return "+".join(f"{degree}e" for degree in range(l_max + 1))


def natural(l_max: int) -> str:
    """Parities of spherical harmonics: paths have even sums of degrees."""
    return "+".join(f"{degree}{'eo'[degree % 2]}" for degree in range(l_max + 1))


@pytest.mark.parametrize(
    ("factor", "parity", "counts"),
    [
        (2, all_even, [6, 19, 44, 85]),
        (2, natural, [5, 14, 30, 55]),
        (1, all_even, [5, 15, 34, 65]),
        (1, natural, [4, 11, 23, 42]),
    ],
)
def test_a_weight_per_path_reaches_every_path(factor: int, parity: Callable[[int], str], counts: list[int]) -> None:
    for l_max, count in enumerate(counts, 1):
        irreps, irreps_out = parity(l_max), parity(factor * l_max)
        product = TensorProduct(irreps, irreps, irreps_out, weights="per_path")
        assert expressivity(product) == count
        expected = allowed(l_max, factor * l_max, "mixed" if parity is all_even else "even")
        assert interactability(product) == expected
        assert len(expected) == count


@pytest.mark.parametrize(("factor", "ranks"), [(2, [5, 9, 13, 17]), (1, [4, 7, 10, 13])])
@pytest.mark.parametrize("backend", ["clebsch_gordan", "gaunt_fourier", "spherical_grid"])
def test_weights_per_degree_of_gaunt_products(backend: str, factor: int, ranks: list[int]) -> None:
    for l_max, rank in enumerate(ranks, 1):
        irreps, irreps_out = all_even(l_max), all_even(factor * l_max)
        product = TensorProduct(irreps, irreps, irreps_out, coupling="gaunt", backend=backend, weights="per_degree")
        assert expressivity(product) == rank == incidence_rank(allowed(l_max, factor * l_max, "even"))
        assert interactability(product) == allowed(l_max, factor * l_max, "even")


@pytest.mark.parametrize(("coupling", "parity"), [("bracket", "odd"), ("gaunt+bracket", "mixed")])
@pytest.mark.parametrize("factor", [1, 2])
def test_weights_per_degree_of_brackets(coupling: str, parity: str, factor: int) -> None:
    for l_max in range(1, 5):
        triples = allowed(l_max, factor * l_max, parity)
        reached = "+".join(f"{degree}e" for degree in sorted({triple[2] for triple in triples}))
        irreps = all_even(l_max)
        product = TensorProduct(irreps, irreps, reached, coupling=coupling, weights="per_degree")
        assert expressivity(product) == incidence_rank(triples)
        assert interactability(product) == triples


@pytest.mark.parametrize("coupling", ["clebsch_gordan", "gaunt", "gaunt+bracket", "matrix"])
@pytest.mark.parametrize("weights", ["none", "shared"])
def test_one_weight_or_none_reaches_one_map(coupling: str, weights: str) -> None:
    product = TensorProduct(all_even(2), all_even(2), all_even(2), coupling=coupling, weights=weights)
    assert expressivity(product) == 1
    assert interactability(product) == allowed(2, 2, "even" if coupling == "gaunt" else "mixed")


def test_spin_matrices_miss_the_paths_whose_6j_symbol_vanishes() -> None:
    l_max, l_out = 6, 8
    product = TensorProduct(
        all_even(l_max), all_even(l_max), all_even(l_out), backend="matrix", weights="per_degree", coupling="matrix"
    )
    triples = allowed(l_max, l_out, "mixed")
    missing = {triple for triple in triples if np.abs(matrix_coupling(*triple, l_out // 2)).max() < 1e-12}
    assert missing
    assert interactability(product) == triples - missing
    assert expressivity(product) == incidence_rank(triples - missing)


def test_entries_of_different_channels_have_families_of_their_own() -> None:
    operands = ("2x0e+3x1o+2x1o", "0e+1o", "2x0e+3x1o+2x1o")
    per_path = TensorProduct(*operands, weights="per_path")
    # 2 channels: 0·0→0, 0·1→1, 1·0→1, 1·1→0; 3 channels: 1·0→1.
    assert len(per_path.paths) == expressivity(per_path) == 5
    assert interactability(per_path) == {(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)}
    # 2 + 2 + 2 − 2 and 1, of the only path.
    assert expressivity(TensorProduct(*operands, weights="per_degree")) == 4 + 1
    assert expressivity(TensorProduct(*operands, weights="shared")) == 2
    assert expressivity(TensorProduct(*operands, weights="none")) == 1


def test_channels_and_own_weights_change_nothing() -> None:
    narrow = TensorProduct(natural(2), natural(2), natural(2), weights="per_degree", mode="elementwise")
    wide = "4x0e+4x1o+4x2e"
    owned = TensorProduct(wide, wide, wide, weights="per_degree", mode="elementwise", own_weights=True)
    # A trained weight may well be zero: the measures are of the family, not of its member.
    owned.weight.data.zero_()
    assert expressivity(owned) == expressivity(narrow) == 7
    assert interactability(owned) == interactability(narrow) == allowed(2, 2, "even")


def test_duplicate_entries_have_paths_of_their_own() -> None:
    product = TensorProduct("0e+0e+1o", "1o", "0e+1o+1o", weights="per_path")
    assert expressivity(product) == len(product.paths) == 5
    assert interactability(product) == {(0, 1, 1), (1, 1, 0)}


def test_a_truncated_cp_product_is_measured_by_what_rotations_allow() -> None:
    operands = (all_even(2), all_even(2), all_even(2))
    product = TensorProduct(*operands, backend="cp", rank=28, weights="per_degree")
    assert not product.exact
    assert interactability(product) == allowed(2, 2, "mixed")
    assert expressivity(product) == incidence_rank(allowed(2, 2, "mixed"))


def test_trained_factors_are_measured_as_they_are() -> None:
    operands = ("0e+1o", "0e+1o", "0e+1o")
    product = TensorProduct(*operands, backend="cp", rank="exact", weights="per_degree", trainable=True)
    # Two degrees in each place, connected by the paths (0, 0, 0), (0, 1, 1), (1, 0, 1) and (1, 1, 0).
    assert expressivity(product) == 4
    assert len(interactability(product)) == 4
    # No term reads the vector of x any longer.
    product.products[0].factor_in1.data[:, 1:] = 0
    assert interactability(product) == {(0, 0, 0), (0, 1, 1)}
    assert expressivity(product) == incidence_rank({(0, 0, 0), (0, 1, 1)}) == 2


def test_an_exact_cp_product_keeps_to_the_paths_of_its_coupling() -> None:
    product = TensorProduct(*[all_even(2)] * 3, backend="cp", coupling="gaunt", rank="exact", weights="per_degree")
    assert interactability(product) == allowed(2, 2, "even")
    assert expressivity(product) == incidence_rank(allowed(2, 2, "even"))


@pytest.mark.parametrize("weights", ["per_path", "per_degree"])
def test_the_measures_take_seconds_up_to_degree_eight(weights: str) -> None:
    product = TensorProduct(all_even(4), all_even(4), all_even(8), weights=weights)
    for measure in (expressivity, interactability):
        start = time.process_time()
        measure(product)
        assert time.process_time() - start < 3
