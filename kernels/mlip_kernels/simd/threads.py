"""The threads that programs run on: those of torch's OpenMP.

Numba would bring a second pool of threads. Both wait for work by spinning, so that where operations of torch and
programs take turns, as in training, the threads of one would take the cores from those of the other.
"""

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from llvmlite import ir

from mlip_kernels.simd.code import INTEGER, Code, Index, Indices

_SYMBOLS = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
_INT = ir.IntType(32)
_POINTER = ir.PointerType()


@cache
def has_openmp() -> bool:
    """Whether torch's OpenMP can run programs; makes its functions known to the compiler, as `mlip_<name>`."""
    import llvmlite.binding as llvm

    # The handle of a library finds the functions of those that it was linked with too.
    names = ("libtorch_cpu.so", "libtorch_cpu.dylib")
    paths = [path for name in names if (path := Path(torch.__file__).parent / "lib" / name).exists()]
    try:
        library = ctypes.CDLL(str(paths[0]))
        addresses = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in _SYMBOLS]
    except (IndexError, OSError, AttributeError):
        return False
    for name, address in zip(_SYMBOLS, addresses, strict=True):
        llvm.add_symbol(f"mlip_{name}", address)
    return True


@cache
def _first_process() -> int:
    return os.getpid()


def usable_threads(tasks: int) -> int:
    """Threads that so many tasks may have: those of torch; one in a forked process, which has no copy of them."""
    return min(tasks, torch.get_num_threads()) if os.getpid() == _first_process() else 1


# Emits what one task does, given the arguments of the program, the numbers of the phase and of the task, and all tasks.
Task = Callable[[Code, Indices, Index, Index, Index], None]


def emit_tasks(code: Code, arguments: Indices, phase: Index, tasks: Index, threads: Index, emit: Task) -> None:
    """Run tasks 0 to `tasks` of a phase on so many threads; each thread takes every so-manieth task."""
    if not has_openmp():
        with code.loop(0, tasks) as task:
            emit(code, arguments, phase, task, tasks)
        return
    builder = code.builder
    team = _team_function(code, emit)
    with builder.goto_entry_block():
        shared = builder.alloca(ir.ArrayType(INTEGER, 3))
    shared.type = _POINTER
    record = Indices(code, shared)
    record.set(0, Index(code, builder.ptrtoint(arguments.value, INTEGER)))
    record.set(1, phase)
    record.set(2, tasks)
    with builder.if_else(threads.compare(">", 1)) as (several, one):
        with several:
            run = _external(builder.module, "GOMP_parallel", ir.VoidType(), [_POINTER, _POINTER, _INT, _INT])
            builder.call(run, [team, shared, builder.trunc(threads.value, _INT), ir.Constant(_INT, 0)])
        with one, code.loop(0, tasks) as task:
            emit(code, arguments, phase, task, tasks)


def _team_function(code: Code, emit: Task) -> ir.Function:
    """What each thread of a team runs: the tasks that are its own."""
    module = code.builder.module
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_POINTER]), "mlip_team")
    function.linkage = "internal"
    function.attributes.add("nounwind")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    body = Code(builder, code.real, code.lanes, code.functions)
    record = Indices(body, function.args[0])
    own = builder.sext(builder.call(_external(module, "omp_get_thread_num", _INT, []), []), INTEGER)
    # Fewer than were asked for, where there are limits.
    count = builder.sext(builder.call(_external(module, "omp_get_num_threads", _INT, []), []), INTEGER)
    arguments, phase, tasks = record.indices(0), record.get(1), record.get(2)
    with body.loop(Index(body, own), tasks, Index(body, count)) as task:
        emit(body, arguments, phase, task, tasks)
    builder.ret_void()
    return function


def _external(module: ir.Module, name: str, result: ir.Type, arguments: list[ir.Type]) -> ir.Function:
    known = module.globals.get(f"mlip_{name}")
    return known or ir.Function(module, ir.FunctionType(result, arguments), f"mlip_{name}")
