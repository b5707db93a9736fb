"""The factorised product against loops in numpy, finite differences and the reference."""

import numpy as np
import pytest
import torch
from edge_cases import normal
from hypothesis import given, settings
from hypothesis import strategies as st

from mlip_kernels.factorised_product import IMPLEMENTATIONS, KernelFactorisedProduct, op

# Channels of x and y: equal, either single, both single; less than a vector, a whole one, and more.
CHANNELS = [(3, 3), (16, 1), (1, 33), (1, 1), (32, 32)]


def operands(
    channels: tuple[int, int], seed: int, rows: int = 3, dims: tuple[int, int, int] = (4, 3, 2), points: int = 5
) -> list[torch.Tensor]:
    tables = [(points, dim) for dim in dims]
    return normal(seed, (rows, dims[0], channels[0]), (rows, dims[1], channels[1]), *tables)


def by_loops(given: list[torch.Tensor], summed: bool) -> np.ndarray:
    x, y, first, second, third = (each.numpy() for each in given)
    channels = max(x.shape[2], y.shape[2])
    output = np.zeros((len(x), third.shape[1], channels))
    for row in range(len(x)):
        for channel in range(channels):
            of_x = x[row, :, channel if x.shape[2] > 1 else 0]
            of_y = y[row, :, channel if y.shape[2] > 1 else 0]
            for a, b, c in zip(first, second, third, strict=True):
                output[row, :, channel] += c * (a @ of_x) * (b @ of_y)
    return output.sum(2, keepdims=True) if summed else output


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    channels=st.sampled_from(CHANNELS),
    summed=st.booleans(),
    rows=st.integers(0, 4),
    dims=st.tuples(*[st.integers(1, 17)] * 3),
    points=st.integers(1, 40),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_against_loops(name, seed, channels, summed, rows, dims, points, dtype) -> None:
    given_operands = operands(channels, seed, rows, dims, points)
    expected = by_loops(given_operands, summed)
    actual = IMPLEMENTATIONS[name]()(*(each.to(dtype) for each in given_operands), summed)
    assert actual.dtype == dtype
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-13}[dtype] * (10 + np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(actual.double().numpy(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("channels", [(2, 2), (2, 1), (1, 2), (1, 1)])
@pytest.mark.parametrize("summed", [False, True])
def test_derivatives_of_first_and_second_order(name: str, channels: tuple[int, int], summed: bool) -> None:
    x, y, *tables = operands(channels, 1, 2)
    operation = IMPLEMENTATIONS[name]()
    given_operands = x.requires_grad_(), y.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: operation(x, y, *tables, summed), given_operands)
    assert torch.autograd.gradgradcheck(lambda x, y: operation(x, y, *tables, summed), given_operands, fast_mode=True)


@pytest.mark.parametrize("channels", CHANNELS)
def test_third_derivatives_are_those_of_the_reference(channels: tuple[int, int]) -> None:
    results = []
    for operation in IMPLEMENTATIONS.values():
        x, y, *tables = operands(channels, 2)
        given_operands = x.requires_grad_(), y.requires_grad_()
        total = operation()(x, y, *tables).pow(3).sum()
        for _ in range(3):
            total = sum(each.pow(2).sum() for each in torch.autograd.grad(total, given_operands, create_graph=True))
        results.append(total.item())
    assert results[0] == pytest.approx(results[1], rel=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operation_is_sound(dtype: torch.dtype) -> None:
    x, y, *tables = (each.to(dtype) for each in operands((3, 1), 3))
    torch.library.opcheck(op.product, (x.requires_grad_(), y.requires_grad_(), *tables, False))
    torch.library.opcheck(op.product, (x.requires_grad_(), y.requires_grad_(), *tables, True))


def test_results_do_not_depend_on_threads_or_repetition() -> None:
    given_operands = [each.float() for each in operands((40, 40), 4, rows=50, dims=(9, 9, 9), points=30)]
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            results.append([op.product(*given_operands, False), op.product(*given_operands, True)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(first, second) for first, second in zip(results[0], other, strict=True))


def test_nothing_of_the_size_of_rows_times_points_times_channels_is_kept() -> None:
    x, y, *tables = operands((16, 16), 5, rows=50, dims=(4, 4, 4), points=60)
    kept: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    operation = KernelFactorisedProduct()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = operation(x.requires_grad_(), y.requires_grad_(), *tables)
        torch.autograd.grad(result.pow(2).sum(), (x, y), create_graph=True)
    assert max(kept) == x.numel()


def test_what_is_no_number_stays_none() -> None:
    x, y, *tables = operands((3, 3), 6)
    x[1, 0, 2] = torch.nan
    isnan = KernelFactorisedProduct()(x, y, *tables).isnan()
    assert isnan[1, :, 2].all()
    assert isnan.sum() == isnan[1, :, 2].sum()


def test_tables_that_are_trained_are_refused() -> None:
    x, y, first, second, third = operands((3, 3), 7)
    with pytest.raises(ValueError, match="detach them, or use the reference"):
        KernelFactorisedProduct()(x, y, first, second.requires_grad_(), third)
