"""Triton kernels compiled ahead of time, without a GPU: what a launch would take of the hardware.

`compile_kernel` compiles for a named target and reads the registers, the stack, the shared memory and the spills out of
the result: by `cuobjdump`, which lies beside Triton's own `ptxas`, for NVIDIA, and from the assembly for AMD.
Triton is imported on the first compilation, so that this module can be imported where it is missing.
"""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NVIDIA_TARGETS = ("sm_80", "sm_90")
AMD_TARGETS = ("gfx942",)
TARGETS = NVIDIA_TARGETS + AMD_TARGETS

# Options of every launch and every compilation ahead of time. Fusion to FMA is named, since Triton 3.10 changes the
# default; software pipelining was seen to cost more registers than it hides latency.
COMPILER_OPTIONS: dict[str, Any] = {"num_stages": 1, "enable_fp_fusion": True}


@dataclass(frozen=True, eq=False)
class CompileCase:
    """A kernel with the types and constants of its arguments and its launch parameters.

    Attributes:
        name: Short name, unique among the cases of an operation.
        kernel: The function under `triton.jit`.
        signature: Triton type of each argument that is no constant, such as `"*fp32"`, `"*i64"`, `"i32"`.
        constexprs: Values of the arguments that are constants.
        num_warps: Warps of a program.
        targets: Targets on which a launch would choose these parameters.
    """

    name: str
    kernel: Any
    signature: Mapping[str, str]
    constexprs: Mapping[str, Any]
    num_warps: int = 1
    targets: tuple[str, ...] = TARGETS


@dataclass(frozen=True)
class Usage:
    """What a compiled kernel takes.

    Attributes:
        registers: Registers of a thread, 32 bits each; for AMD vector registers, accumulation registers included.
        stack: Bytes of thread-private memory outside registers, a thread.
        shared: Bytes of shared memory, a program.
        spills: Bytes (NVIDIA: the stack, on which Triton's kernels hold nothing else) or registers (AMD) spilled.
    """

    registers: int
    stack: int
    shared: int
    spills: int


def compile_case(case: CompileCase, target: str) -> Usage:
    """Compile one case for one target."""
    return compile_kernel(
        case.kernel, case.signature, case.constexprs, target, case.num_warps, COMPILER_OPTIONS["num_stages"]
    )


def compile_kernel(
    kernel: Any,
    signature: Mapping[str, str],
    constexprs: Mapping[str, Any],
    target: str,
    num_warps: int = 1,
    num_stages: int = COMPILER_OPTIONS["num_stages"],
) -> Usage:
    """Compile a Triton kernel for a target and report what it takes.

    Args:
        kernel: The function under `triton.jit`, not interpreted.
        signature: Triton type of each argument that is no constant.
        constexprs: Values of the arguments that are constants.
        target: One of `TARGETS`.
        num_warps: Warps of a program.
        num_stages: Stages of software pipelining.

    Raises:
        ValueError: the target is none of `TARGETS`, or an argument is neither typed nor constant.
    """
    if target not in TARGETS:
        raise ValueError(f"there is no target '{target}': choose among {', '.join(TARGETS)}.")
    unknown = [name for name in kernel.arg_names if name not in signature and name not in constexprs]
    if unknown:
        raise ValueError(f"the argument '{unknown[0]}' has no type and no value: add it to signature or constexprs.")
    import triton
    from triton.compiler import ASTSource

    source = ASTSource(
        fn=kernel,
        signature={name: signature.get(name, "constexpr") for name in kernel.arg_names},
        constexprs={(number,): constexprs[name] for number, name in enumerate(kernel.arg_names) if name in constexprs},
        # Torch's allocations are aligned, as the launcher finds and tells the compiler.
        attrs={
            (number,): [["tt.divisibility", 16]]
            for number, name in enumerate(kernel.arg_names)
            if signature.get(name, "").startswith("*")
        },
    )
    options = {**COMPILER_OPTIONS, "num_warps": num_warps, "num_stages": num_stages}
    compiled = triton.compile(source, target=_gpu_target(target), options=options)
    if target in AMD_TARGETS:
        return read_amd_assembly(compiled.asm["amdgcn"], compiled.metadata.shared)
    return read_resource_usage(_resource_usage(compiled.asm["cubin"]), compiled.metadata.shared)


def read_resource_usage(text: str, shared: int) -> Usage:
    """Usage from what `cuobjdump --dump-resource-usage` prints; `shared` is what the launcher adds at run time."""
    stack = _number(r"STACK:(\d+)", text)
    return Usage(_number(r"REG:(\d+)", text), stack, shared, stack)


def read_amd_assembly(text: str, shared: int) -> Usage:
    """Usage from the metadata at the end of AMD's assembly, in which `vgpr_count` includes accumulation registers."""
    return Usage(
        registers=_number(r"\.vgpr_count:\s+(\d+)", text),
        stack=_number(r"\.private_segment_fixed_size:\s+(\d+)", text),
        shared=shared,
        spills=_number(r"\.vgpr_spill_count:\s+(\d+)", text),
    )


def _gpu_target(target: str) -> Any:
    from triton.backends.compiler import GPUTarget

    if target in AMD_TARGETS:
        return GPUTarget("hip", target, 64)
    return GPUTarget("cuda", int(target.removeprefix("sm_")), 32)


def _resource_usage(cubin: bytes) -> str:
    import triton

    program = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(program), "--dump-resource-usage", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"the compiler's report has no '{pattern}': its form has changed; adapt this pattern to it.")
    return int(found.group(1))
