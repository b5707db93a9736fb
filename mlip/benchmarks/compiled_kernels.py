"""What Triton's kernels take of a GPU, read out of compilations without one."""

import importlib
import importlib.util
import math
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlip_kernels
from mlip.benchmarks.tables import markdown_table
from mlip.errors import ConfigError
from mlip.so3 import wigner_3j
from mlip_kernels.gpu_compile import CompileCase, compile_case
from mlip_kernels.spherical_harmonics import HarmonicsTable

if TYPE_CHECKING:
    from rich.table import Table

_TITLES = ["kernel", "target", "warps", "registers", "stack", "shared", "spills"]
_L_MAX = 3


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel as it was compiled for a target.

    Attributes:
        operation: Folder of `mlip_kernels` that it belongs to.
        kernel: Name of the kernel and its variant.
        target: Such as sm_90.
        warps: Of a program.
        registers: Of a thread.
        stack: Bytes of a thread.
        shared: Bytes of shared memory of a program.
        spills: Bytes (NVIDIA) or registers (AMD) of a thread that found no place in registers.
    """

    operation: str
    kernel: str
    target: str
    warps: int
    registers: int
    stack: int
    shared: int
    spills: int


def harmonics_table(l_max: int) -> HarmonicsTable:
    """The recursion of `mlip.so3.spherical_harmonics` in component normalisation."""
    raisings = []
    for degree in range(l_max):
        coupling = wigner_3j(degree, 1, degree + 1)
        ratio = math.sqrt((2 * degree + 3) / (2 * degree + 1))
        raisings.append(ratio / coupling[degree, 1, degree + 1] * coupling)
    return HarmonicsTable(tuple(raisings))


def compile_cases() -> list[tuple[str, CompileCase]]:
    """Every Triton kernel in its usual forms, with its operation.

    Raises:
        ConfigError: Triton is not installed.
    """
    if importlib.util.find_spec("triton") is None:
        raise ConfigError("the package triton is not installed, which compiles the kernels for GPUs: install it.")
    found: list[tuple[str, CompileCase]] = []
    for module in pkgutil.iter_modules(mlip_kernels.__path__):
        if module.ispkg and importlib.util.find_spec(f"mlip_kernels.{module.name}.gpu") is not None:
            gpu = importlib.import_module(f"mlip_kernels.{module.name}.gpu")
            tables = [harmonics_table(_L_MAX)] if module.name == "spherical_harmonics" else []
            found += [(module.name, case) for case in gpu.compile_cases(*tables)]
    return found


def compile_kernels(targets: Sequence[str], cases: Sequence[tuple[str, CompileCase]]) -> Iterator[list[CompiledKernel]]:
    """Compile each case for those of the targets that it is launched on."""
    for operation, case in cases:
        compiled = []
        for target in targets:
            if target in case.targets:
                usage = compile_case(case, target)
                numbers = usage.registers, usage.stack, usage.shared, usage.spills
                compiled.append(CompiledKernel(operation, case.name, target, case.num_warps, *numbers))
        yield compiled


def compiled_markdown(kernels: Sequence[CompiledKernel]) -> str:
    """The report: a table for each operation, and how many kernels spill."""
    lines = [
        "# Triton kernels, compiled without a GPU",
        "",
        "Registers and stack are those of a thread, shared memory that of a program, in bytes. Spills are bytes of a",
        "thread for NVIDIA, where nothing else is on the stack, and vector registers for AMD.",
    ]
    for operation in dict.fromkeys(kernel.operation for kernel in kernels):
        cells = [_cells(kernel) for kernel in kernels if kernel.operation == operation]
        lines += [
            "",
            f"## {operation}",
            "",
            *markdown_table(_TITLES, cells, [title in _TITLES[:2] for title in _TITLES]),
        ]
    return "\n".join([*lines, "", spill_sentence(kernels), ""])


def compiled_table(kernels: Sequence[CompiledKernel]) -> "Table":
    """The table for the console."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in _TITLES:
        table.add_column(title, justify="left" if title in _TITLES[:2] else "right", overflow="fold")
    last = None
    for kernel in kernels:
        if last not in (None, kernel.operation):
            table.add_section()
        last = kernel.operation
        table.add_row(*_cells(kernel))
    return table


def spill_sentence(kernels: Sequence[CompiledKernel]) -> str:
    """How many spill."""
    spilling = sum(kernel.spills > 0 for kernel in kernels)
    return f"{len(kernels)} compilations, {spilling or 'none'} of which {'spill' if spilling > 1 else 'spills'}."


def _cells(kernel: CompiledKernel) -> list[str]:
    numbers = kernel.warps, kernel.registers, kernel.stack, kernel.shared, kernel.spills
    return [kernel.kernel, kernel.target, *map(str, numbers)]
