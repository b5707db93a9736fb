"""`mlip bench kernels`: the operations against their references, and compilations for GPUs without one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlip.cli.console import console, progress
from mlip.cli.options import Dtype

if TYPE_CHECKING:
    from mlip.benchmarks.compiled_kernels import CompiledKernel
    from mlip.benchmarks.kernel_cases import KernelProblem
    from mlip.benchmarks.kernels import KernelRecord


def kernels(
    compile_only: Annotated[
        str | None,
        typer.Option(
            help="Do not measure, but compile the kernels of GPUs for these of sm_80, sm_90 and gfx942. Needs no GPU.",
            show_default=False,
        ),
    ] = None,
    atoms: Annotated[int, typer.Option(min=1, help="With as many neighbours as in water.")] = 192,
    channels: Annotated[int, typer.Option(min=1, help="Of the features.")] = 128,
    l_max: Annotated[int, typer.Option(min=1, max=6, help="Highest degree.")] = 3,
    dtype: Dtype = "float32",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of torch; by default as many as it likes.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Shorter measurements.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results; replaced if they exist.")] = (
        Path("runs/bench/kernels")
    ),
) -> None:
    """Time the operations' kernels on this CPU, or compile those for GPUs and see what they take."""
    if compile_only is not None:
        _compile(compile_only, output)
        return
    import torch

    from mlip.benchmarks.kernel_cases import KernelProblem
    from mlip.benchmarks.timing import torch_threads

    with torch_threads(threads):
        problem = KernelProblem(atoms, _NEIGHBOURS, channels, l_max, getattr(torch, dtype))
        _measure(problem, 0.05 if quick else 1.0, output)


# Of an atom of water at a cutoff of 5 Å.
_NEIGHBOURS = 56


def _measure(problem: "KernelProblem", seconds: float, output: Path) -> None:
    import torch

    from mlip.benchmarks.fused_rate import fused_rate
    from mlip.benchmarks.kernel_cases import all_cases
    from mlip.benchmarks.kernel_tables import kernel_markdown, kernel_table, peak_sentence
    from mlip.benchmarks.kernels import run_cases
    from mlip.benchmarks.records import Environment, write_csv, write_json
    from mlip.benchmarks.roofline import Roofline, copy_bandwidth
    from mlip.data.files import written_beside

    cpu = torch.device("cpu")
    roofline = Roofline(fused_rate(problem.dtype), copy_bandwidth(cpu, problem.dtype))
    environment = Environment.now(cpu, roofline)
    records: list[KernelRecord] = []
    with progress("Measuring") as bar:
        for record in run_cases(all_cases(problem), roofline, seconds):
            records.append(record)
            write_json(output / "results.json", environment, records)
            write_csv(output / "results.csv", environment, records)
            with written_beside(output / "table.md") as partial:
                partial.write_text(kernel_markdown(environment, str(problem), records))
            bar.advance()
    console.print(kernel_table(records))
    console.print(f"{problem}\n{peak_sentence(environment)}", soft_wrap=True)
    for record in records:
        if record.reason:
            console.out(f"Not measured: {record.operation}, {record.measured}: {record.reason}")
    console.print(f"Written to {output}: results.json, results.csv, table.md", soft_wrap=True)


def _compile(targets: str, output: Path) -> None:
    import torch

    from mlip.benchmarks.compiled_kernels import (
        compile_cases,
        compile_kernels,
        compiled_markdown,
        compiled_table,
        spill_sentence,
    )
    from mlip.benchmarks.problems import parse_names
    from mlip.benchmarks.records import Environment, write_csv, write_json
    from mlip.data.files import written_beside
    from mlip_kernels.gpu_compile import TARGETS

    chosen = parse_names("target", targets, TARGETS)
    cases = compile_cases()
    environment = Environment.now(torch.device("cpu"))
    found: list[CompiledKernel] = []
    with progress("Compiling", len(cases)) as bar:
        for compiled in compile_kernels(chosen, cases):
            found += compiled
            bar.advance()
    write_json(output / "compiled.json", environment, found)
    write_csv(output / "compiled.csv", environment, found)
    with written_beside(output / "compiled.md") as partial:
        partial.write_text(compiled_markdown(found))
    console.print(compiled_table(found))
    console.print(spill_sentence(found))
    console.print(f"Written to {output}: compiled.json, compiled.csv, compiled.md", soft_wrap=True)
