"""Maps between particles and coefficient tensors against einsum and finite differences."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from coulomb_cases import derivatives
from edge_cases import normal
from hypothesis import given, settings
from hypothesis import strategies as st

from mlip_kernels.separable_moments import cpu, op, reference, separable_evaluation, separable_moments

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}
BACKENDS = [cpu, reference]


@pytest.fixture(params=BACKENDS, ids=["cpu", "reference"], autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "implementation", lambda like: request.param)


def spans(starts: torch.Tensor) -> list[slice]:
    return [slice(*bounds) for bounds in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]


def moments(charges: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
    *factors, starts = others
    parts = [torch.einsum("ic,ia,ib,id->cabd", charges[own], *(each[own] for each in factors)) for own in spans(starts)]
    return torch.stack(parts)


def evaluation(tensor: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
    *factors, starts = others
    parts = [
        torch.einsum("cabd,ia,ib,id->ic", tensor[number], *(each[own] for each in factors))
        for number, own in enumerate(spans(starts))
    ]
    return torch.cat(parts)


def assert_close(actual: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype
        scale = other.abs().max().item() if other.numel() else 0.0
        torch.testing.assert_close(one.double(), other.double(), rtol=0, atol=tolerance * (1 + scale))


def compare(
    sizes: list[int], channels: int, ranks: tuple[int, ...], dtype: torch.dtype, orders: int, seed: int
) -> None:
    starts = torch.tensor([0, *np.cumsum(sizes)], dtype=torch.int64)
    particles = sum(sizes)
    charges, tensor, *factors = normal(
        seed, (particles, channels), (len(sizes), channels, *ranks), *((particles, rank) for rank in ranks), dtype=dtype
    )
    pairs: list[tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor], torch.Tensor]]
    pairs = [(separable_moments, moments, charges), (separable_evaluation, evaluation, tensor)]
    for function, definition, first in pairs:
        results = []
        for each in (function, definition):
            operands = tuple(one.clone().requires_grad_() for one in (first, *factors))
            results.append(derivatives(each(*operands, starts), operands, orders))
        assert_close(*results, TOLERANCE[dtype])


# Ranks below a vector, of a whole one, of several, with several panels; structures of many and of few particles.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("sizes", "channels", "ranks"),
    [
        ([5], 1, (1, 1, 1)),
        ([3, 0, 40], 2, (3, 9, 16)),
        ([130], 1, (17, 19, 21)),
        ([7, 8], 1, (12, 33, 34)),
        ([2], 3, (2, 40, 1)),
    ],
)
def test_values_and_derivatives(sizes: list[int], channels: int, ranks: tuple[int, ...], dtype: torch.dtype) -> None:
    compare(sizes, channels, ranks, dtype, 2, 1)


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=3),
    channels=st.integers(1, 3),
    ranks=st.tuples(*[st.integers(1, 20)] * 3),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_shape(dtype: torch.dtype, sizes: list[int], channels: int, ranks: tuple[int, ...], seed: int) -> None:
    compare(sizes, channels, ranks, dtype, 1, seed)


def test_derivatives_are_those_of_finite_differences() -> None:
    starts = torch.tensor([0, 2, 3])
    charges, tensor, *factors = (
        each.requires_grad_() for each in normal(2, (3, 2), (2, 2, 2, 3, 1), (3, 2), (3, 3), (3, 1))
    )
    for function, first in ((separable_moments, charges), (separable_evaluation, tensor)):
        call = lambda *given, function=function: function(*given, starts)  # noqa: E731
        assert torch.autograd.gradcheck(call, (first, *factors))
        assert torch.autograd.gradgradcheck(call, (first, *factors))


def test_third_derivatives() -> None:
    compare([4, 3], 2, (3, 4, 2), torch.float64, 3, 3)


def test_the_operations_are_sound() -> None:
    starts = torch.tensor([0, 2, 5])
    charges, tensor, *factors = normal(4, (5, 1), (2, 1, 2, 3, 4), (5, 2), (5, 3), (5, 4))
    operands = [each.requires_grad_() for each in (charges, *factors)]
    torch.library.opcheck(op.moments, (*operands, starts))
    torch.library.opcheck(op.evaluation, (tensor.requires_grad_(), *factors, starts))
    torch.library.opcheck(op.gradients, (tensor, *operands, starts))


def test_results_do_not_depend_on_threads_or_repetition() -> None:
    starts = torch.tensor([0, 90, 150])
    charges, tensor, *factors = normal(5, (150, 1), (2, 1, 17, 18, 19), (150, 17), (150, 18), (150, 19))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            results.append(
                [
                    op.moments(charges, *factors, starts),
                    op.evaluation(tensor, *factors, starts),
                    *op.gradients(tensor, charges, *factors, starts),
                ]
            )
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


def test_nothing_larger_than_operands_and_result_is_kept() -> None:
    charges, *factors = (each.requires_grad_() for each in normal(6, (300, 1), (300, 8), (300, 8), (300, 8)))
    kept: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = separable_moments(charges, *factors, torch.tensor([0, 300]))
        torch.autograd.grad(result.pow(2).sum(), (charges, *factors), create_graph=True)
    assert max(kept) <= factors[0].numel()


def test_what_is_no_number_stays_in_its_structure() -> None:
    starts = torch.tensor([0, 3, 6])
    charges, tensor, *factors = normal(7, (6, 1), (2, 1, 3, 3, 3), (6, 3), (6, 3), (6, 3))
    charges[1] = torch.nan
    found = separable_moments(charges, *factors, starts)
    assert found[0].isnan().all()
    assert not found[1].isnan().any()
    tensor[1, 0, 0, 0, 0] = torch.nan
    assert separable_evaluation(tensor, *factors, starts).isnan().flatten().tolist() == [False] * 3 + [True] * 3


def program() -> list[float]:
    """Sums of what the operations give."""
    starts = torch.tensor([0, 20, 50])
    charges, tensor, *factors = (
        each.requires_grad_() for each in normal(8, (50, 1), (2, 1, 9, 14, 11), (50, 9), (50, 14), (50, 11))
    )
    found = derivatives(separable_moments(charges, *factors, starts), (charges, *factors), 2)
    found += derivatives(separable_evaluation(tensor, *factors, starts), (tensor, *factors), 1)
    return [float(each.abs().sum()) for each in found]


def test_processors_with_shorter_vectors() -> None:
    if op.implementation(torch.empty(0)) is not cpu:
        return
    environment = {**os.environ, "NUMBA_CPU_NAME": "x86-64-v3", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__))]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env=environment).stdout
    assert [float(each) for each in printed.split()] == pytest.approx(program(), rel=1e-12)


if __name__ == "__main__":
    # In a process for another processor: its numbers are compared with those of this one.
    print(*program())  # noqa: T201
