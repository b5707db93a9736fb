"""Matrix products of programs against numpy."""

import numpy as np
import pytest
from simd_pieces import REALS, Emitter, Pieces

from mlip_kernels.simd.code import Code, Indices
from mlip_kernels.simd.matrix import Rows, define_product, multiply
from mlip_kernels.simd.target import host_target

# Columns of the matrix in vectors: fewer than a block of the product has, as many, and several blocks with a rest.
WIDTHS = (1, 3, 7)


def product(vectors: int, add: bool) -> Emitter:
    """Arguments rows, inner, left and its stride, matrix, result and its stride."""

    def emit(code: Code, given: Indices) -> None:
        columns = vectors * code.lanes
        define_product(code, columns)
        left, result = Rows(given.reals(2), given.get(3)), Rows(given.reals(5), given.get(6))
        # The inner dimension is a constant in models; three of them stand for all here.
        for inner in (1, 5, 16):
            with code.when(given.get(1).compare("==", inner)):
                multiply(code, left, given.reals(4), result, given.get(0), inner, columns, add)

    return emit


EMITTERS = {f"{vectors} {add}": product(vectors, add) for vectors in WIDTHS for add in (False, True)}


@pytest.fixture(scope="module", params=REALS)
def run(request: pytest.FixtureRequest) -> Pieces:
    return Pieces(request.param, EMITTERS)


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("vectors", WIDTHS)
@pytest.mark.parametrize("inner", [1, 5, 16])
def test_products_of_any_number_of_rows(run: Pieces, vectors: int, inner: int, add: bool) -> None:
    columns = vectors * host_target().lanes(run.dtype.name)
    generator = np.random.default_rng(5)
    matrix = generator.normal(size=(inner, columns)).astype(run.dtype)
    for rows in (0, 1, 5, 6, 7, 13):
        # Rows stand in wider ones, of which the rest has to stay as it is.
        left = generator.normal(size=(rows, inner + 3)).astype(run.dtype)
        result = generator.normal(size=(rows + 1, columns + 5)).astype(run.dtype)
        before = result.copy()
        run(f"{vectors} {add}", rows, inner, left, inner + 3, matrix, result, columns + 5)
        expected = before.astype(float)
        expected[:rows, :columns] *= float(add)
        expected[:rows, :columns] += left[:, :inner].astype(float) @ matrix.astype(float)
        np.testing.assert_allclose(result, expected, atol=16 * np.finfo(run.dtype).eps)
        changed = result != before
        assert not changed[rows:].any()
        assert not changed[:, columns:].any()
