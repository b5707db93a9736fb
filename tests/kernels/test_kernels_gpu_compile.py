"""Triton kernels compiled ahead of time for each target: none spills as it would be launched."""

import os
import subprocess
import sys

import pytest

from mlip_kernels.gpu_compile import (
    AMD_TARGETS,
    NVIDIA_TARGETS,
    CompileCase,
    compile_case,
    compile_kernel,
    read_amd_assembly,
    read_resource_usage,
)
from mlip_kernels.gpu_launch import LaunchParameters, launch, launch_parameters
from mlip_kernels.triton_source import KernelText, combination, load_source

pytest.importorskip("triton")

# Some of each operation for every run; the others take minutes.
REPRESENTATIVE = (
    "convolution_mace_layer_2_tabulated_forward_0",
    "convolution_mace_layer_2_tabulated_gradients_0",
    "convolution_sevennet_given_gradients_2",
    "contraction_0e_1o_forward_0",
    "contraction_0e_1o_of_coefficients_0",
    "segment_sum",
)
# Most registers that leave three warps of four schedulers each on an SM, and all of gfx942's without accumulators.
MOST_REGISTERS = {"sm_80": 168, "sm_90": 168, "gfx942": 256}


def parameters() -> list:  # type: ignore[type-arg]
    from mlip_kernels.channelwise_convolution import gpu as convolution
    from mlip_kernels.segment_sum import gpu as segment_sum
    from mlip_kernels.symmetric_contraction import gpu as contraction

    cases = [*convolution.compile_cases(), *contraction.compile_cases(), *segment_sum.compile_cases()]
    assert len({case.name for case in cases}) == len(cases)
    found = []
    for case in cases:
        marks = [] if case.name.startswith(REPRESENTATIVE) else [pytest.mark.slow]
        found.extend(pytest.param(case, target, marks=marks, id=f"{case.name}-{target}") for target in case.targets)
    return found


@pytest.mark.parametrize(("case", "target"), parameters())
def test_nothing_spills(case: CompileCase, target: str) -> None:
    usage = compile_case(case, target)
    assert (usage.spills, usage.stack) == (0, 0)
    assert usage.registers <= MOST_REGISTERS[target]
    if "segment_sum" not in case.name:
        # Sums over channels stay within a warp.
        assert usage.shared == 0


def crowded_case(size: int) -> CompileCase:
    """One warp keeps two vectors of `size` numbers across a loop."""
    lines = [
        "@triton.jit",
        "def crowded(values, rounds, output, SIZE: tl.constexpr):",
        "    place = tl.arange(0, SIZE)",
        "    x = tl.load(values + place)",
        "    y = tl.load(values + SIZE + place)",
        "    for _ in range(rounds):",
        "        x, y = y, x * y + x",
        "    tl.store(output + place, x + y)",
    ]
    kernel = load_source("crowded", "\n".join(lines)).crowded
    return CompileCase("crowded", kernel, {"values": "*fp32", "rounds": "i32", "output": "*fp32"}, {"SIZE": size})


@pytest.mark.parametrize(("target", "size"), [("sm_80", 8192), ("gfx942", 16384)])
def test_spills_are_seen(target: str, size: int) -> None:
    """512 numbers a lane do not fit into registers, and 32 do."""
    usage = compile_case(crowded_case(size), target)
    assert usage.spills > 0
    assert usage.stack > 0
    few = compile_case(crowded_case(size // 16), target)
    assert (few.spills, few.stack) == (0, 0)
    assert few.registers > 32


def test_shared_memory_is_seen() -> None:
    body = "    c = tl.arange(0, 128)\n    tl.store(output, tl.sum(tl.load(values + c), 0))\n"
    kernel = load_source("total", f"@triton.jit\ndef total(values, output):\n{body}").total
    types = {"values": "*fp32", "output": "*fp32"}
    assert compile_kernel(kernel, types, {}, "sm_90", num_warps=1).shared == 0
    assert compile_kernel(kernel, types, {}, "sm_90", num_warps=4).shared > 0


def test_refuses_what_it_cannot_compile() -> None:
    case = crowded_case(32)
    with pytest.raises(ValueError, match="no target 'sm_10': choose among sm_80, sm_90, gfx942"):
        compile_case(case, "sm_10")
    with pytest.raises(ValueError, match="argument 'rounds' has no type"):
        compile_kernel(case.kernel, {"values": "*fp32", "output": "*fp32"}, {"SIZE": 32}, "sm_80")


def test_reports_of_another_form_are_refused() -> None:
    with pytest.raises(ValueError, match="its form has changed"):
        read_resource_usage("Function k: R255", 0)
    with pytest.raises(ValueError, match="its form has changed"):
        read_amd_assembly(".vgpr_count: 12", 0)


def test_one_channel_a_lane() -> None:
    assert launch_parameters(128, 32) == LaunchParameters(32, 1)
    assert launch_parameters(128, 64) == LaunchParameters(64, 1)
    assert launch_parameters(32, 64) == LaunchParameters(32, 1)
    assert launch_parameters(1) == LaunchParameters(32, 1)
    assert [LaunchParameters(32, 1).blocks(channels) for channels in (1, 32, 33, 128)] == [1, 1, 2, 4]


def test_an_empty_grid_is_not_launched() -> None:
    launch(None, (0, 4), (), {})


def test_generated_text() -> None:
    text = KernelText("kernel", ("values", "count"), 40, 32, ["count"])
    text.define("unused", "tl.load(values)")
    text.define("first", "tl.load(values + 1)")
    text.define("second", "2 * first")
    with text.indented("for number in range(count):"):
        # What was defined outside does not move into the loop.
        text.define("inner", text.load("values + channel"))
        text.store("values + channel", "inner + 1")
    text.store("values", "second + second")
    assert str(text).splitlines() == [
        "@triton.jit(do_not_specialize=['count'])",
        "def kernel(values, count):",
        "    lane = tl.arange(0, 32)",
        "    channel = tl.program_id(1) * 32 + lane",
        "    inside = channel < 40",
        "    for number in range(count):",
        "        inner = tl.load(values + channel, mask=inside, other=0.0)",
        "        tl.store(values + channel, inner + 1, mask=inside)",
        "    first = tl.load(values + 1)",
        "    second = 2 * first",
        "    tl.store(values, second + second, mask=inside)",
    ]
    with pytest.raises(ValueError, match="33 vectors were to be summed"):
        text.sum_channels(["x"] * 33, "total")
    assert combination([("a", 1.0), ("b", -1 / 3)]) == "a + -0.3333333333333333 * b"
    assert load_source("title", "x = 1") is load_source("title", "x = 1")


PROBE = """
import sys
sys.modules["triton"] = None
import mlip_kernels.channelwise_convolution.gpu
import mlip_kernels.symmetric_contraction.gpu
import mlip_kernels.segment_sum.gpu
import mlip_kernels.gpu_compile
"""


def test_triton_may_be_missing() -> None:
    command = [sys.executable, "-W", "error", "-c", PROBE]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ), timeout=120)
    assert result.returncode == 0, result.stderr


def test_targets_are_of_one_maker_each() -> None:
    assert set(NVIDIA_TARGETS).isdisjoint(AMD_TARGETS)
