"""Sums over lanes against numpy."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from simd_pieces import REALS, Pieces

from mlip_kernels.simd.code import Code, Indices
from mlip_kernels.simd.reduction import LaneSums, lane_sum
from mlip_kernels.simd.target import host_target


def orders(lanes: int) -> Iterator[list[int]]:
    """Numbers of vectors in the order in which they are added: every count, up, down and mixed, and with gaps."""
    generator = np.random.default_rng(3)
    for count in range(1, lanes + 1):
        yield list(range(count))
        yield list(reversed(range(count)))
        yield generator.permutation(count).tolist()
        yield generator.choice(lanes, count, replace=False).tolist()


def sums(code: Code, given: Indices) -> None:
    """Arguments vectors [lanes, lanes], result [orders, lanes]."""
    vectors, result = given.reals(0), given.reals(1)
    for row, order in enumerate(orders(code.lanes)):
        reduction = LaneSums()
        for number in order:
            reduction.add(number, vectors.load(number * code.lanes))
        result.store(row * code.lanes, reduction.result())


def single(code: Code, given: Indices) -> None:
    """Arguments vectors [lanes, lanes], result [lanes]: the sum of each."""
    with code.loop(0, code.lanes) as number:
        given.reals(1).set(number, lane_sum(given.reals(0).load(number * code.lanes)))


@pytest.fixture(scope="module", params=REALS)
def run(request: pytest.FixtureRequest) -> Pieces:
    return Pieces(request.param, {"sums": sums, "single": single})


@pytest.fixture
def vectors(run: Pieces) -> NDArray[Any]:
    lanes = host_target().lanes(run.dtype.name)
    return np.random.default_rng(4).normal(size=(lanes, lanes)).astype(run.dtype)


def test_sums_for_every_count_and_order(run: Pieces, vectors: NDArray[Any]) -> None:
    lanes = len(vectors)
    result = run.zeros(4 * lanes, lanes)
    run("sums", vectors, result)
    totals = vectors.astype(float).sum(1)
    for order, row in zip(orders(lanes), result, strict=True):
        expected = np.zeros(lanes)
        expected[order] = totals[order]
        np.testing.assert_allclose(row, expected, atol=16 * np.finfo(run.dtype).eps, err_msg=str(order))
        assert (row[np.setdiff1d(np.arange(lanes), order)] == 0.0).all()


def test_sum_of_one_vector(run: Pieces, vectors: NDArray[Any]) -> None:
    result = run.zeros(len(vectors))
    run("single", vectors, result)
    np.testing.assert_allclose(result, vectors.astype(float).sum(1), atol=16 * np.finfo(run.dtype).eps)
