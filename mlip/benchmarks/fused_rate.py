"""The peak of a CPU's arithmetic: multiplications fused with additions, on registers alone."""

import torch
from torch import Tensor

from mlip.benchmarks.roofline import fastest
from mlip_kernels.simd.code import Code, Index, Indices, RealType
from mlip_kernels.simd.program import Program
from mlip_kernels.simd.target import host_target

_REALS: dict[torch.dtype, RealType] = {torch.float32: "float32", torch.float64: "float64"}
# Independent chains of operations: two units with a latency of four or five cycles need as many; all fit the registers.
_CHAINS = 12
_TURNS = 2_000_000


def fused_rate(dtype: torch.dtype) -> float:
    """Additions and multiplications a second of vector units that do nothing else, with the threads of torch."""
    lanes = host_target().lanes(_REALS[dtype])
    program = Program("Peak of fused multiplications and additions.", f"fused_rate {_CHAINS}", _REALS[dtype], [_emit])
    tasks = torch.get_num_threads()
    # What is computed has to be stored, or the compiler would leave the computation out.
    results = torch.zeros(tasks * _CHAINS * lanes, dtype=dtype)
    arguments: list[int | Tensor] = [_TURNS, results]
    seconds = fastest(lambda: program(arguments, tasks), torch.device("cpu"))
    return 2 * lanes * _CHAINS * _TURNS * tasks / seconds


def _emit(code: Code, arguments: Indices, task: Index, tasks: Index) -> None:
    """Chains x ← 0.5 x + 1, which tend to 2."""
    chains = [code.variable(code.broadcast(float(number))) for number in range(_CHAINS)]
    half, one = code.broadcast(0.5), code.broadcast(1.0)
    with code.loop(0, arguments.get(0)):
        for chain in chains:
            chain.set(code.fused(chain.get(), half, one))
    results = arguments.reals(1).at(task * (_CHAINS * code.lanes))
    for number, chain in enumerate(chains):
        results.store(number * code.lanes, chain.get())
