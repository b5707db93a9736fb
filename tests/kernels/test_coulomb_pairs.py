"""Sums over Coulomb pairs against plain torch, finite differences and scipy."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import torch
from coulomb_cases import SCREENING, Crystal, crystal, derivatives, direct
from edge_cases import normal
from hypothesis import given, settings
from hypothesis import strategies as st
from simd_pieces import REALS, Pieces

from mlip_kernels.coulomb_pairs import (
    Screening,
    cpu,
    direct_energies,
    direct_potential,
    energies,
    op,
    reference,
    screened_energies,
    screened_potential,
)
from mlip_kernels.coulomb_pairs.cpu_erfc import erfc
from mlip_kernels.coulomb_pairs.cpu_vectors import inverse_root, reciprocal
from mlip_kernels.simd.code import Code, Indices

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-13}
BACKENDS = [cpu, reference]


@pytest.fixture(params=BACKENDS, ids=["cpu", "reference"], autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "implementation", lambda like: request.param)


def assert_close(actual: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float) -> None:
    for one, other in zip(actual, expected, strict=True):
        scale = other.abs().max().item() if other.numel() else 0.0
        torch.testing.assert_close(one.double(), other.double(), rtol=0, atol=tolerance * (1 + scale))


# Cutoffs with no neighbour, a few, and more than two vectors of them; channels beyond those of one program.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("atoms", "cutoff", "channels"), [(1, 0.4, 1), (1, 2.6, 1), (5, 0.9, 1), (9, 3.0, 5), (30, 2.2, 1)]
)
def test_screened_sums_and_derivatives(atoms: int, cutoff: float, channels: int, dtype: torch.dtype) -> None:
    case = crystal(atoms, cutoff, 1, dtype)
    (charges,) = normal(2, (atoms, channels), dtype=dtype)
    results = []
    for function in (case.screened, case.expected):
        operands = tuple(each.clone().requires_grad_() for each in (case.positions, case.cell, charges))
        results.append(derivatives(function(*operands, SCREENING), operands, 2))
    assert_close(*results, 20 * TOLERANCE[dtype])


@settings(max_examples=20)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    channels=st.sampled_from([1, 5]),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_direct_sums_and_derivatives(dtype: torch.dtype, sizes: list[int], channels: int, seed: int) -> None:
    starts = torch.tensor([0, *np.cumsum(sizes)], dtype=torch.int64)
    # Sites of a lattice, displaced: no two atoms come close.
    sites = torch.cartesian_prod(*[torch.arange(4)] * 3).double()
    chosen = [sites[torch.randperm(64, generator=torch.Generator().manual_seed(seed))[:size]] for size in sizes]
    moved, charges = normal(seed, (sum(sizes), 3), (sum(sizes), channels))
    positions = torch.cat([sites[:0], *chosen]) + 0.1 * moved.clamp(-2, 2)
    results = []
    for function in (direct_potential, direct):
        operands = positions.to(dtype).requires_grad_(), charges.to(dtype).requires_grad_()
        results.append(derivatives(function(*operands, starts), operands, 2))
    assert_close(*results, 20 * TOLERANCE[dtype])


def small() -> tuple[Crystal, tuple[torch.Tensor, ...]]:
    case = crystal(4, 2.4, 3)
    (charges,) = normal(4, (4, 4))
    return case, tuple(each.requires_grad_() for each in (case.positions, case.cell, charges))


def test_derivatives_are_those_of_finite_differences() -> None:
    case, operands = small()
    function = lambda *given: case.screened(*given, SCREENING)  # noqa: E731
    assert torch.autograd.gradcheck(function, operands)
    assert torch.autograd.gradgradcheck(function, operands)
    starts = torch.tensor([0, 1, 4])
    function = lambda positions, charges: direct_potential(positions, charges, starts)  # noqa: E731
    assert torch.autograd.gradcheck(function, (operands[0], operands[2]))
    assert torch.autograd.gradgradcheck(function, (operands[0], operands[2]))


def test_third_derivatives() -> None:
    case, operands = small()
    assert_close(
        derivatives(case.screened(*operands, SCREENING), operands, 3),
        derivatives(case.expected(*operands, SCREENING), operands, 3),
        1e-12,
    )
    starts, operands = torch.tensor([0, 1, 4]), (operands[0], operands[2])
    assert_close(
        derivatives(direct_potential(*operands, starts), operands, 3),
        derivatives(direct(*operands, starts), operands, 3),
        1e-12,
    )


def test_a_list_without_screening_is_the_bare_sum() -> None:
    positions, charges = normal(5, (12, 3), (12, 1))
    receivers, senders = torch.nonzero(~torch.eye(12, dtype=torch.bool), as_tuple=True)
    starts = torch.searchsorted(receivers, torch.arange(13))
    listed = screened_potential(
        positions, torch.zeros(len(senders), 3).double(), charges, Screening(0.0, 90.0, 1.0), senders, starts
    )
    torch.testing.assert_close(listed, direct_potential(positions, charges, torch.tensor([0, 12])))


def test_the_operations_are_sound() -> None:
    case, (positions, cell, charges) = small()
    offsets = (case.shifts @ cell).detach().requires_grad_()
    lists = case.senders, case.starts, SCREENING
    for operands in (
        (positions, offsets, charges, *lists),
        (positions, None, charges, None, torch.tensor([0, 4]), ()),
    ):
        torch.library.opcheck(op.potential, operands)
        too = operands[1] is not None
        torch.library.opcheck(op.gradients, (charges, *operands, too))
        changes = (
            positions.detach().cos(),
            None if operands[1] is None else offsets.detach().cos(),
            charges.detach().cos(),
        )
        if not too:
            torch.library.opcheck(
                energies.energies_with_slopes,
                (positions, None, charges[:, :1].detach(), *operands[3:5], operands[4], ()),
            )
        # Third derivatives, in plain torch, depend on the list's values, which compilation does not know.
        tests = ("test_schema", "test_autograd_registration", "test_faketensor")
        torch.library.opcheck(op.second, (charges, *operands[:3], *changes, *operands[3:], too), test_utils=tests)


@pytest.mark.parametrize("channels", [1, 2])
def test_energies_and_derivatives(channels: int) -> None:
    case = crystal(6, 2.6, 3)
    (charges,) = normal(4, (6, channels))
    structures = torch.tensor([0, 6, 6])
    batch = torch.zeros(6, dtype=torch.int64)
    for mixed in (False, True):
        results = []
        for fused in (True, False):
            x, q = (each.clone().requires_grad_() for each in (case.positions, charges))
            offsets = case.shifts @ case.cell
            if fused:
                total, values = screened_energies(x, offsets, q, SCREENING, case.senders, case.starts, structures)
            else:
                values = case.expected(x, case.cell, q, SCREENING)
                total = torch.zeros(2, channels).double().index_add(0, batch, q * values / 2)
            # A weight for each channel; both results are used, or the energies alone.
            total = total * torch.tensor([1.0, 2.0])[:channels]
            output = torch.cat([total, values]) if mixed else total
            forces = torch.autograd.grad(output.sum(), (x, q), retain_graph=True)
            results.append([*derivatives(output, (x, q), 3), *forces])
        assert_close(*results, 1e-12)


def test_energies_by_all_pairs() -> None:
    positions, charges = normal(9, (11, 3), (11, 1))
    starts = torch.tensor([0, 4, 11])
    results = []
    for fused in (True, False):
        x, q = positions.clone().requires_grad_(), charges.clone().requires_grad_()
        if fused:
            total, _ = direct_energies(x, q, starts)
        else:
            parts = (q * direct(x, q, starts) / 2).split([4, 7])
            total = torch.stack([part.sum(0) for part in parts])
        # Weights that differ between structures.
        total = total * torch.tensor([[1.0], [-3.0]])
        results.append([total, *torch.autograd.grad(total.sum(), (x, q), retain_graph=True)])
        results[-1] += derivatives(total, (x, q), 2)
    assert_close(*results, 1e-12)


def test_results_do_not_depend_on_threads_or_repetition() -> None:
    case = crystal(60, 3.0, 6)
    (charges,) = normal(7, (60, 1))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            operands = tuple(each.clone().requires_grad_() for each in (case.positions, case.cell, charges))
            listed = derivatives(case.screened(*operands, SCREENING), operands[::2], 2)
            all_pairs = direct_potential(case.positions, charges, torch.tensor([0, 25, 60]))
            results.append([*listed, all_pairs])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


def test_what_is_no_number_stays_none() -> None:
    positions, charges = normal(8, (20, 3), (20, 1))
    charges[3] = torch.nan
    found = direct_potential(positions, charges, torch.tensor([0, 10, 20]))
    # An atom has no part in its own potential, nor one of another structure.
    assert found.isnan().flatten().tolist() == [number < 10 and number != 3 for number in range(20)]
    receivers = torch.arange(20).repeat_interleave(3)
    senders = (receivers + torch.tensor([1, 2, 3]).repeat(20)) % 20
    starts = 3 * torch.arange(21)
    found = screened_potential(
        positions, torch.zeros(60, 3).double(), charges, Screening(0.3, 5.0, 0.2), senders, starts
    )
    assert found.isnan().flatten().tolist() == [number < 3 for number in range(20)]


def test_operands_of_unequal_types_are_refused() -> None:
    positions, charges = normal(9, (4, 3), (4, 1))
    with pytest.raises(ValueError, match="are float64, float32: give all of them in float32, or all in float64"):
        direct_potential(positions, charges.float(), torch.tensor([0, 4]))
    with pytest.raises(ValueError, match="are float16, float16"):
        direct_energies(positions.half(), charges.half(), torch.tensor([0, 4]))


def functions(code: Code, given: Indices) -> None:
    """Arguments count (a multiple of the lanes), numbers, result [4, count]."""
    count, numbers, result = given.get(0), given.reals(1), given.reals(2)
    with code.loop(0, count, code.lanes) as place:
        x = numbers.load(place)
        for number, value in enumerate([*erfc(x), inverse_root(x + 1e-3), reciprocal(x + 1e-3)]):
            result.store(count * number + place, value)


@pytest.mark.parametrize("real", REALS)
def test_functions_against_those_of_libraries(real: str) -> None:
    run = Pieces(real, {"functions": functions})
    largest = {"float32": 9.0, "float64": 26.0}[real]
    x = np.concatenate([np.linspace(0, largest, 20_000 - 16), np.logspace(-30, 0, 16)]).astype(run.dtype)
    result = run.zeros(4, len(x))
    run("functions", len(x), x, result)
    shifted = (x + run.dtype.type(1e-3)).astype(np.longdouble)
    exact = np.array([math.erfc(each) for each in x.tolist()])
    expected = [exact, np.exp(-(x.astype(np.longdouble) ** 2)), shifted**-0.5, 1 / shifted]
    for values, other, units in zip(result, expected, (4.5, 2, 1.5, 1.5), strict=True):
        assert np.all(np.abs(values / other - 1) <= units * np.finfo(run.dtype).eps)
    # Where it is large scipy's is a hundred units off.
    np.testing.assert_allclose(
        result[0], scipy.special.erfc(x.astype(float)), rtol={"float32": 6e-7, "float64": 1e-13}[real]
    )


def program() -> list[float]:
    """Sums of what the operations give."""
    case, operands = small()
    found = derivatives(case.screened(*operands, SCREENING), operands, 2)
    found += derivatives(direct_potential(operands[0], operands[2], torch.tensor([0, 4])), operands[::2], 2)
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
