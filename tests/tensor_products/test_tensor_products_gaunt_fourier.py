"""Gaunt products by Fourier series, directly and by fast transforms."""

import itertools
from math import log2

import numpy as np
import pytest
import torch
from e3nn.o3 import Irrep
from torch.utils.flop_counter import FlopCounterMode

from mlip.errors import ConfigError
from mlip.so3 import spherical_harmonics
from mlip.tensor_products import ProductSpec, TensorProduct, gaunt_fourier
from mlip.tensor_products.gaunt_fourier import GauntFourier, fft_sizes, torus_factors

ALGORITHMS = ("direct", "fft")


def functions(l1: int, l2: int, l3: int) -> ProductSpec:
    """Functions on the sphere: every degree once, with its natural parity."""
    first, second, third = (tuple(Irrep(l, (-1) ** l) for l in range(l_max + 1)) for l_max in (l1, l2, l3))  # noqa: E741
    return ProductSpec(first, second, third, "gaunt", "none")


def operands(spec: ProductSpec, channels: int, channels_in2: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, spec.dims[0], channels, generator=generator, dtype=torch.float64)
    y = torch.randn(2, spec.dims[1], channels_in2, generator=generator, dtype=torch.float64)
    return x, y


def error(product: GauntFourier, channels_in2: int = 1) -> float:
    """Of a product of normal operands, relative to the sum over paths."""
    x, y = operands(product.spec, 2, channels_in2)
    expected = torch.einsum("bic,bjc,ijk->bkc", x, y.expand(-1, -1, 2), torch.tensor(product.spec.tensor()))
    return float((product(x, y, None) - expected).norm() / expected.norm())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_all_degrees_up_to_six(algorithm: str) -> None:
    for l1, l2, l3 in itertools.product(range(7), repeat=3):
        product = GauntFourier(functions(l1, l2, l3), algorithm=algorithm)
        assert error(product) <= 1e-12, (l1, l2, l3)
        assert error(product, channels_in2=2) <= 1e-12, (l1, l2, l3)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_products_of_functions(algorithm: str) -> None:
    spec = functions(3, 5, 8)
    x, y = operands(spec, 2, 2)
    directions = torch.randn(50, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = spherical_harmonics(8, directions, "orthonormal")
    result = GauntFourier(spec, algorithm=algorithm)(x, y, None)
    torch.testing.assert_close(values @ result, (values[:, :16] @ x) * (values[:, :36] @ y), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("l1", "l2", "l3"), [(1, 1, 2), (2, 2, 2), (3, 3, 2), (4, 4, 8)])
def test_as_many_points_as_needed_are_exact_and_one_fewer_is_not(
    l1: int, l2: int, l3: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def error_with(*sizes: int) -> float:
        monkeypatch.setattr(gaunt_fourier, "fft_sizes", lambda *_: sizes)
        return error(GauntFourier(functions(l1, l2, l3), algorithm="fft"))

    theta, phi = 2 * (l1 + l2) + 1, l1 + l2 + l3 + 1
    assert error_with(theta, phi) <= 1e-13
    assert error_with(theta - 1, phi) > 1e-3
    assert error_with(theta, phi - 1) > 1e-3


@pytest.mark.parametrize("degrees", [(0, 0, 0), (1, 1, 1), (1, 1, 2), (2, 3, 5), (6, 0, 0), (6, 6, 6), (2, 2, 7)])
def test_sizes_of_fast_transforms(degrees: tuple[int, int, int]) -> None:
    l1, l2, l3 = degrees
    highest = l1 + l2
    least = 2 * highest + 1, max(highest + min(highest, l3) + 1, 2 * l1 + 1, 2 * l2 + 1)
    for size, needed in zip(fft_sizes(*degrees), least, strict=True):
        suitable = {2 * 2**a * 3**b * 5**c * 7**d for a, b, c, d in itertools.product(range(7), repeat=4)} | {1}
        assert size == min(each for each in suitable if each >= needed)


@pytest.mark.parametrize("l3", [1, 3, 5])
def test_factors_are_a_decomposition_of_the_coupling(l3: int) -> None:
    spec = functions(3, 2, l3)
    first, second, third = torus_factors(spec)
    points = 1 + 5 * (6 + l3)
    assert (first.shape, second.shape, third.shape) == ((points, 16), (points, 9), ((l3 + 1) ** 2, points))
    assert all(table.dtype == np.float64 for table in (first, second, third))
    np.testing.assert_allclose(
        np.einsum("ri,rj,kr->ijk", first, second, third, optimize=True), spec.tensor(), rtol=0, atol=1e-14
    )


def test_two_signals_have_twice_the_points() -> None:
    one, two = (
        TensorProduct("0e+1o", irreps, irreps, backend="gaunt_fourier", weights="none").products[0]
        for irreps in ("0e+1o", "0e+1o+1e")
    )
    assert isinstance(one, GauntFourier)
    assert isinstance(two, GauntFourier)
    x = torch.empty(0)
    assert len(two.factors(x)[0]) == 2 * len(one.factors(x)[0])
    np.testing.assert_allclose(
        np.einsum("ri,rj,kr->ijk", *(table.double().numpy() for table in two.factors(x))), two.spec.tensor(), atol=1e-7
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_factors_lead_to_the_product(algorithm: str) -> None:
    product = GauntFourier(functions(2, 3, 4), algorithm=algorithm)
    x, y = operands(product.spec, 3, 3)
    first, second, third = product.factors(x)
    torch.testing.assert_close(third @ ((first @ x) * (second @ y)), product(x, y, None), rtol=0, atol=1e-13)


@pytest.mark.parametrize("channels_in2", [1, 4])
def test_flops_are_counted_truthfully(channels_in2: int) -> None:
    spec = functions(3, 2, 4)
    x, y = operands(spec, 4, channels_in2)
    direct, fast = (GauntFourier(spec, algorithm=algorithm) for algorithm in ALGORITHMS)
    first, second, third = direct.factors(x)
    # The counter of torch knows matrix products only.
    with FlopCounterMode(display=False) as counter:
        _ = third @ ((first @ x) * (second @ y))
    assert direct.flops(2, 4, channels_in2) == counter.get_total_flops() + 2 * len(first) * 4
    with FlopCounterMode(display=False) as counter:
        fast(x, y, None)
    # 12 × 10 points; complex transforms of the columns v = 0 … L along θ, real ones along φ.
    assert fft_sizes(3, 2, 4) == (12, 10)
    transforms = [
        width * round(5 * (highest + 1) * 12 * log2(12) + 2.5 * 120 * log2(10))
        for highest, width in ((3, 4), (2, channels_in2), (4, 4))
    ]
    assert fast.flops(2, 4, channels_in2) == counter.get_total_flops() + 2 * (sum(transforms) + 120 * 4)


def test_high_degrees_take_fast_transforms(monkeypatch: pytest.MonkeyPatch) -> None:
    assert GauntFourier(functions(6, 6, 12)).algorithm == "direct"
    monkeypatch.setattr(gaunt_fourier, "FFT_FROM_DEGREE", 6)
    assert GauntFourier(functions(2, 2, 1)).algorithm == "direct"
    assert GauntFourier(functions(2, 2, 2)).algorithm == "fft"


def test_unknown_algorithms_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown algorithm 'ftt': did you mean 'fft'"):
        TensorProduct("1o", "1o", "0e", backend="gaunt_fourier", weights="none", algorithm="ftt")
