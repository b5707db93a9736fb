"""Triton's kernels of the pair sums, interpreted on the CPU; run by test_kernels_gpu_interpreted.py."""

import pytest
import torch
from coulomb_cases import SCREENING, crystal, derivatives, direct
from edge_cases import normal

from mlip_kernels.coulomb_pairs import direct_potential, gpu, op


@pytest.fixture(autouse=True)
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the operations take Triton's kernels for tensors on the CPU."""
    monkeypatch.setattr(op, "implementation", lambda like: gpu)


def assert_close(actual: list[torch.Tensor], expected: list[torch.Tensor], dtype: torch.dtype) -> None:
    tolerance = {torch.float32: 2e-4, torch.float64: 1e-12}[dtype]
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == dtype
        atol = tolerance * (1 + other.abs().max().item())
        torch.testing.assert_close(one.double(), other.double(), rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("atoms", "cutoff", "channels"), [(3, 0.6, 1), (5, 2.4, 3)])
def test_screened_sums_and_derivatives(atoms: int, cutoff: float, channels: int, dtype: torch.dtype) -> None:
    case = crystal(atoms, cutoff, 1, dtype)
    (charges,) = normal(2, (atoms, channels), dtype=dtype)
    results = []
    for function in (case.screened, case.expected):
        operands = tuple(each.clone().requires_grad_() for each in (case.positions, case.cell, charges))
        results.append(derivatives(function(*operands, SCREENING), operands, 2))
    assert_close(*results, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("sizes", "channels"), [([6, 0, 1, 3], 1), ([66], 1), ([5], 3)])
def test_direct_sums_and_derivatives(sizes: list[int], channels: int, dtype: torch.dtype) -> None:
    starts = torch.tensor([0, *sizes]).cumsum(0)
    atoms = sum(sizes)
    sites = torch.cartesian_prod(*[torch.arange(5)] * 3).double()[:atoms]
    moved, charges = normal(3, (atoms, 3), (atoms, channels))
    results = []
    for function in (direct_potential, direct):
        positions = (sites + 0.1 * moved.clamp(-2, 2)).to(dtype).requires_grad_()
        operands = positions, charges.to(dtype).requires_grad_()
        results.append(derivatives(function(*operands, starts), operands, 2))
    assert_close(*results, dtype)


def test_derivatives_are_those_of_finite_differences() -> None:
    case = crystal(2, 2.0, 3)
    (charges,) = normal(4, (2, 1))
    operands = tuple(each.requires_grad_() for each in (case.positions, case.cell, charges))
    function = lambda *given: case.screened(*given, SCREENING)  # noqa: E731
    assert torch.autograd.gradcheck(function, operands, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, operands, fast_mode=True)


def test_the_operations_are_sound() -> None:
    case = crystal(2, 2.0, 3)
    (charges,) = normal(4, (2, 1))
    operands = case.positions.requires_grad_(), case.shifts @ case.cell, charges.requires_grad_()
    torch.library.opcheck(op.potential, (*operands, case.senders, case.starts, SCREENING))
