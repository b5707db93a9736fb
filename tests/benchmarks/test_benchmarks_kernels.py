"""The benchmark of kernels: registry, arithmetic of the records, peaks, and what compilations report."""

import pytest
import torch

from mlip.benchmarks import compiled_kernels, fused_rate, kernel_cases, kernel_tables, kernels
from mlip.benchmarks.kernel_cases import KernelProblem
from mlip.benchmarks.kernels import KernelCase, KernelRecord, Work
from mlip.benchmarks.records import Environment
from mlip.benchmarks.roofline import Roofline
from mlip.so3 import spherical_harmonics
from mlip_kernels.gpu_compile import CompileCase, Usage
from mlip_kernels.spherical_harmonics import ReferenceSphericalHarmonics

PROBLEM = KernelProblem(6, 3, 16, 2, torch.float64)
ROOFLINE = Roofline(flops=1e9, bandwidth=1e9)


@pytest.mark.parametrize("make", kernel_cases.CASES, ids=lambda make: make.__name__)
def test_every_kernel_computes_what_its_reference_does(make) -> None:
    for case in make(PROBLEM):
        expected, actual = case.reference()(), case.kernel()()
        pairs = [(expected, actual)] if isinstance(expected, torch.Tensor) else list(zip(expected, actual, strict=True))
        for first, second in pairs:
            torch.testing.assert_close(second, first, rtol=0, atol=1e-11 * (1 + first.abs().max().item()))
        assert case.work.flops > 0
        assert case.work.bytes > 0


def test_a_problem_has_edges_sorted_by_receiver() -> None:
    edges = PROBLEM.topology
    assert edges.receivers.tolist() == sorted(edges.receivers.tolist())
    assert torch.bincount(edges.receivers).tolist() == [3] * 6
    assert str(PROBLEM) == "6 atoms, 18 edges, 16 channels, degrees up to 2, float64."


def test_records_relate_times_to_work_and_roofline(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(kernels.Stopwatch):
        """The kernel takes 2 ms and the reference 6 ms."""

        def time(self, step):
            return 1e-3 * step()()

    monkeypatch.setattr(kernels, "Stopwatch", Clock)
    case = KernelCase("radial_table", "forward", lambda: lambda: 6, lambda: lambda: 2, Work(1_000_000, 500_000))
    (record,) = kernels.run_cases([case], ROOFLINE, seconds=0.0)
    assert (record.kernel_ms, record.reference_ms) == pytest.approx((2.0, 6.0))
    assert record.speedup == pytest.approx(3.0)
    assert (record.gflops, record.gbytes) == pytest.approx((0.5, 0.25))
    assert record.roofline_fraction == pytest.approx(0.5)


def test_a_case_that_fails_does_not_stop_the_others() -> None:
    def broken():
        raise RuntimeError("out of memory")

    broken_case = KernelCase("first", "forward", lambda: lambda: None, broken, Work(1, 1))
    good_case = KernelCase("second", "forward", lambda: lambda: None, lambda: lambda: None, Work(1, 1))
    first, second = kernels.run_cases([broken_case, good_case], ROOFLINE, seconds=0.0)
    assert first.reason == "RuntimeError: out of memory"
    assert first.kernel_ms is None
    assert second.reason == ""
    text = kernel_tables.kernel_markdown(Environment.now(torch.device("cpu"), ROOFLINE), "A problem.", [first, second])
    assert "- first, forward: RuntimeError: out of memory" in text
    assert "| first | forward | – |" in text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fused_operations_are_counted(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_rate, "_TURNS", 20_000)
    rate = fused_rate.fused_rate(dtype)
    # From a slow core without vectors to many of today's best.
    assert 1e8 < rate < 1e15


def test_the_harmonics_are_those_of_so3() -> None:
    vectors = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = ReferenceSphericalHarmonics(compiled_kernels.harmonics_table(4))(vectors)
    torch.testing.assert_close(found, spherical_harmonics(4, vectors), rtol=0, atol=1e-13)


def test_compilations_are_reported_for_the_targets_of_each_case(monkeypatch: pytest.MonkeyPatch) -> None:
    usages = {"sm_90": Usage(80, 16, 256, 16), "gfx942": Usage(64, 0, 0, 0)}
    monkeypatch.setattr(compiled_kernels, "compile_case", lambda case, target: usages[target])
    everywhere = CompileCase("everywhere", None, {}, {})
    amd = CompileCase("on_amd", None, {}, {}, num_warps=4, targets=("gfx942",))
    found = [
        kernel
        for compiled in compiled_kernels.compile_kernels(["sm_90", "gfx942"], [("one", everywhere), ("two", amd)])
        for kernel in compiled
    ]
    assert [(each.operation, each.kernel, each.target, each.warps, each.spills) for each in found] == [
        ("one", "everywhere", "sm_90", 1, 16),
        ("one", "everywhere", "gfx942", 1, 0),
        ("two", "on_amd", "gfx942", 4, 0),
    ]
    text = compiled_kernels.compiled_markdown(found)
    assert "| everywhere | sm_90 | 1 | 80 | 16 | 256 | 16 |" in text
    assert "3 compilations, 1 of which spills." in text


def test_all_operations_with_a_gpu_module_have_cases() -> None:
    operations = {operation for operation, _ in compiled_kernels.compile_cases()}
    assert {"radial_table", "spherical_harmonics"} <= operations


def test_a_record_of_nothing_is_a_row_of_dashes() -> None:
    assert kernel_tables.kernel_table([KernelRecord("one", "forward", "reason")]).row_count == 1
