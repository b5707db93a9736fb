"""Compiles programs with Numba, once: the machine code is kept on disk."""

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor

from mlip_kernels.simd.cache import cache_folder, folder_of_this_process
from mlip_kernels.simd.code import Code, Index, Indices, RealType
from mlip_kernels.simd.notice import notice_of_compiling
from mlip_kernels.simd.target import host_target
from mlip_kernels.simd.threads import emit_tasks, has_openmp, usable_threads

# What Numba compiles; everything else of a program is emitted by `run_phase`. A function around `run_phase` would be
# optimised once more by itself.
_SOURCE = '''"""{title}"""

from numba import njit


@njit("void(int64[::1], int64, int64, int64, int64)", nogil=True, error_model="numpy", cache=True)
def run(arguments, first, end, tasks, threads):
    for phase in range(first, end):
        run_phase(arguments, phase, tasks, threads)
'''

# A phase of a program: emits what one of several tasks that run at once does.
Phase = Callable[[Code, Indices, Index, Index], None]


class Program:
    """Phases that run one after another, each as tasks on several threads at once.

    Args:
        title: One line that says what the program computes.
        key: Names everything that the emitted code depends on, beside this package and the CPU: equal keys are equal
            programs.
        real: Type of the floating-point numbers.
        phases: Emit the phases. Each gets the code, the arguments (an array of integers: counts, and addresses of
            arrays), the number of the task and the number of tasks.
    """

    def __init__(self, title: str, key: str, real: RealType, phases: Sequence[Phase]) -> None:
        self.title = title
        self.real: RealType = real
        self.phases = phases
        self._run = _load(self, key)

    def __call__(self, arguments: Sequence[int | Tensor], tasks: int) -> None:
        """Run with integers, and tensors of the program's types whose addresses are passed."""
        values = [each.data_ptr() if isinstance(each, Tensor) else each for each in arguments]
        self.run(np.array(values, dtype=np.int64), tasks)

    def run(self, arguments: np.ndarray, tasks: int, first: int = 0, end: int | None = None) -> None:
        """Run with integers and addresses as they are, int64 [arguments]; the phases from `first` up to `end`."""
        self._run(arguments, first, len(self.phases) if end is None else end, tasks, usable_threads(tasks))


def _load(program: Program, key: str) -> Callable[[np.ndarray, int, int, int, int], None]:
    """Compile the program, or load what an earlier process compiled."""
    # Asked here for the first time, so that it names the process that programs are loaded in first.
    usable_threads(1)
    parts = (key, program.real, host_target().name, str(has_openmp()), package_hash())
    name = "mlip_program_" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    known = sys.modules.get(name)
    if known is None:
        path = _kept(f"{name}.py", _SOURCE.format(title=program.title))
        known = ModuleType(name)
        known.__file__ = str(path)
        known.__dict__["run_phase"] = _phase_intrinsic(program)
        # Numba finds the file of a function, and so its cache, by the function's module.
        sys.modules[name] = known
        try:
            with notice_of_compiling(program.title, path):
                exec(compile(path.read_text(), str(path), "exec"), known.__dict__)
        except BaseException:
            del sys.modules[name]
            raise
    run: Callable[[np.ndarray, int, int, int, int], None] = known.__dict__["run"]
    return run


def _phase_intrinsic(program: Program) -> Any:
    """The function that Numba's code calls, whose body the phases emit."""
    from numba import types
    from numba.extending import intrinsic

    lanes = host_target().lanes(program.real)

    def run_phase(typing_context: Any, arguments: Any, phase: Any, tasks: Any, threads: Any) -> Any:
        signature = types.void(arguments, types.int64, types.int64, types.int64)

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, values[0])
            code = Code(builder, program.real, lanes, {})
            for number, emit_phase in enumerate(program.phases):
                with code.function(_phase_name(number), ["indices", "index", "index"]) as (body, (given, own, count)):
                    emit_phase(body, given, own, count)
            phase, tasks, threads = (Index(code, value) for value in values[1:])
            emit_tasks(code, Indices(code, array.data), phase, tasks, threads, call_phase)
            return context.get_dummy_value()

        return signature, emit

    def call_phase(code: Code, arguments: Indices, phase: Index, task: Index, tasks: Index) -> None:
        for number in range(len(program.phases)):
            with code.when(phase.compare("==", number)):
                code.call(_phase_name(number), arguments, task, tasks)

    return intrinsic(run_phase)


def _phase_name(number: int) -> str:
    return f"phase_{number}"


def _kept(name: str, text: str) -> Path:
    """The file of this name in the cache, or elsewhere if that cannot be written to."""
    folder = cache_folder()
    try:
        return _written(folder / name, text)
    except OSError as error:
        return _written(folder_of_this_process(folder, error.strerror) / name, text)


def _written(path: Path, text: str) -> Path:
    """The file with this text, written only where it is missing: Numba's cache goes by the time of the file."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent, suffix=".py.part")
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        os.replace(beside, path)
    return path


@cache
def package_hash() -> str:
    """Names every source that may emit code: this folder, and the modules named cpu or cpu_… of the operations."""
    digest = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for path in sorted([*folder.glob("simd/*.py"), *folder.glob("*/cpu*.py"), *folder.glob("inference/*.py")]):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
