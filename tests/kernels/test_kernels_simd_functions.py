"""Exponential, logistic function, SiLU, hyperbolic tangent and dual numbers against numpy."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from simd_pieces import REALS, Pieces

from mlip_kernels.simd.code import Code, Indices
from mlip_kernels.simd.dual import Dual, fused
from mlip_kernels.simd.functions import exponential, logistic, silu, tanh
from mlip_kernels.simd.target import host_target

ROWS = ("exponential", "logistic", "silu", "silu'", "tanh", "tanh'")
LARGEST = {"float32": 87.0, "float64": 708.0}
Array = NDArray[np.float64]


def functions(code: Code, given: Indices) -> None:
    """Arguments count (a multiple of the lanes), numbers, result [6, count]."""
    count, numbers, result = given.get(0), given.reals(1), given.reals(2)
    with code.loop(0, count, code.lanes) as place:
        x = numbers.load(place)
        for number, value in enumerate([exponential(x), logistic(x), *silu(x), *tanh(x)]):
            result.store(count * number + place, value)


def duals(code: Code, given: Indices) -> None:
    """Arguments x, y, x', y' [lanes], result [2, 2, lanes]: values and tangents of two polynomials."""
    x, y, of_x, of_y = (given.reals(number).load(0) for number in range(4))
    a, b, c = Dual(x, of_x), Dual(y, of_y), Dual(code.broadcast(0.5))
    first = (a * b + c) * a + c * b
    second = fused(code, a, fused(code, b, c, a * a), fused(code, c, b, c))
    for number, each in enumerate((first, second)):
        given.reals(4).store(2 * number * code.lanes, each.value)
        assert each.tangent is not None
        given.reals(4).store((2 * number + 1) * code.lanes, each.tangent)
    constant = fused(code, c, c, c + c * c)
    assert constant.tangent is None


EMITTERS = {"functions": functions, "duals": duals}


@pytest.fixture(scope="module", params=REALS)
def run(request: pytest.FixtureRequest) -> Pieces:
    return Pieces(request.param, EMITTERS)


def evaluated(run: Pieces, x: Array) -> dict[str, Array]:
    """Each function at the numbers x, which are rounded to the program's type."""
    padded = np.resize(x, -(-len(x) // 16) * 16).astype(run.dtype)
    result = run.zeros(len(ROWS), len(padded))
    run("functions", len(padded), padded, result)
    return dict(zip(ROWS, result[:, : len(x)].astype(float), strict=True))


def grid(run: Pieces, largest: float) -> Array:
    """Numbers of the program's type from -largest to largest, and tiny ones."""
    tiny = np.array([0.0, 1e-30, -1e-30, 1e-10, -1e-10, 1e-5])
    return np.concatenate([np.linspace(-largest, largest, 20_001), tiny]).astype(run.dtype).astype(float)


def test_exponential_to_units_in_the_last_place(run: Pieces) -> None:
    x = grid(run, LARGEST[run.dtype.name])
    values = evaluated(run, x)["exponential"]
    # numpy's own is good to one unit in float64.
    np.testing.assert_allclose(values, np.exp(x), rtol=3 * np.finfo(run.dtype).eps, atol=0.0)
    assert (np.diff(values[:20_001]) >= 0.0).all()


def test_exponential_stops_at_the_largest_normal_numbers(run: Pieces) -> None:
    largest = LARGEST[run.dtype.name]
    x = np.array([largest, largest + 1.0, 1e6, np.inf, -largest, -largest - 1.0, -1e6, -np.inf])
    values = evaluated(run, x)["exponential"]
    assert values.tolist() == [values[0]] * 4 + [values[4]] * 4
    assert 0.0 < values[4] < 1e-37 < 1e37 < values[0] < np.inf


def test_what_is_no_number_stays_so_and_among_its_own(run: Pieces) -> None:
    x = np.linspace(-2.0, 2.0, 16)
    x[5] = np.nan
    for name, values in evaluated(run, x).items():
        assert np.isnan(values).tolist() == [number == 5 for number in range(16)], name


def test_activations_and_derivatives_over_the_whole_range(run: Pieces) -> None:
    for largest in (1e-3, 1.0, 20.0, 1e4):
        x = grid(run, largest)
        values = evaluated(run, x)
        wide = np.clip(x, -1e3, 1e3).astype(np.longdouble)
        rate, rest = 1.0 / (1.0 + np.exp(-wide)), 1.0 / (1.0 + np.exp(wide))
        expected = {
            "logistic": rate, "silu": x * rate, "silu'": rate * (1.0 + x * rest),
            "tanh": np.tanh(wide), "tanh'": 4.0 * np.exp(-2.0 * abs(wide)) / (1.0 + np.exp(-2.0 * abs(wide))) ** 2,
        }  # fmt: skip
        for name, exact in expected.items():
            error = np.abs(values[name] - exact) / np.maximum(1.0, np.abs(exact))
            assert error.max() <= 4 * np.finfo(run.dtype).eps, name


def test_derivatives_of_activations_are_those_of_their_values() -> None:
    run = Pieces("float64", EMITTERS)
    x, step = np.linspace(-6.0, 6.0, 64), 1e-5
    above, below, slopes = evaluated(run, x + step), evaluated(run, x - step), evaluated(run, x)
    for name in ("silu", "tanh"):
        np.testing.assert_allclose(slopes[name + "'"], (above[name] - below[name]) / (2.0 * step), atol=1e-9)


def test_dual_numbers(run: Pieces) -> None:
    generator = np.random.default_rng(2)
    x, y, of_x, of_y = generator.uniform(-1.0, 1.0, (4, 16)).astype(run.dtype)
    lanes = host_target().lanes(run.dtype.name)
    result = run.zeros(2, 2, lanes)
    run("duals", x, y, of_x, of_y, result)

    def values(step: float) -> Array:
        a, b = (each[:lanes].astype(float) for each in (x, y))
        a, b, c = a + step * of_x[:lanes], b + step * of_y[:lanes], 0.5
        return np.stack([(a * b + c) * a + c * b, a * (b * c + a * a) + (c * b + c)])

    tolerance = 8 * float(np.finfo(run.dtype).eps)
    np.testing.assert_allclose(result[:, 0], values(0.0), atol=tolerance)
    # Polynomials of the third order, of which this difference is the derivative but for step squared.
    slopes = (values(1e-5) - values(-1e-5)) / 2e-5
    np.testing.assert_allclose(result[:, 1], slopes, atol=max(tolerance, 1e-9))


def values_of_this_process() -> list[Array]:
    """All functions on a grid, in each number type."""
    pieces = [Pieces(real, EMITTERS) for real in REALS]
    return [np.stack(list(evaluated(run, grid(run, 100.0)).values())) for run in pieces]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the other processor is of the x86-64 family")
def test_an_older_processor_computes_the_same(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import numpy, test_kernels_simd_functions as own\n"
        "from mlip_kernels.simd.target import host_target; assert host_target().vector_bytes == 32\n"
        "numpy.savez(sys.argv[2], *own.values_of_this_process())"
    )
    arguments = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path / "values.npz")]
    environment = {**os.environ, "NUMBA_CPU_NAME": "x86-64-v3", "OMP_NUM_THREADS": "1"}
    subprocess.run(arguments, env=environment, check=True)
    with np.load(tmp_path / "values.npz") as other:
        for own, name in zip(values_of_this_process(), other.files, strict=True):
            np.testing.assert_array_equal(other[name], own)
