"""Which implementation of the operations suits a device: Numba's on a CPU, Triton's on a GPU, or the reference."""

import importlib
import importlib.util
import os
import warnings
from functools import cache
from types import ModuleType
from typing import Literal

import torch

Backend = Literal["reference", "cpu", "gpu"]

# Set to "reference", it switches all kernels off.
VARIABLE = "MLIP_KERNELS"
# Of work on so many numbers the start of other threads would take more time than they save.
_FEW_NUMBERS = 1 << 20
_COMPILERS: dict[str, tuple[str, Backend]] = {"cpu": ("numba", "cpu"), "cuda": ("triton", "gpu")}


def available_backend(device: torch.device | str) -> Backend:
    """The backend for tensors on a device, to be asked when a module is built or moved there.

    `reference` where the environment variable MLIP_KERNELS says so, on devices without kernels, and where the compiler
    of the device's kernels is not installed, of which a warning tells once in a process.

    Raises:
        ValueError: MLIP_KERNELS is set to something else.
    """
    wish = os.environ.get(VARIABLE, "")
    if wish not in ("", "reference"):
        raise ValueError(f"{VARIABLE} is set to '{wish}': set it to 'reference', to switch kernels off, or unset it.")
    kind = torch.device(device).type
    if wish == "reference" or kind not in _COMPILERS:
        return "reference"
    package, backend = _COMPILERS[kind]
    return backend if _installed(package) else "reference"


def kernels(operation: str, device: torch.device) -> ModuleType:
    """The kernels of an operation for a device, `cpu` or `gpu` in its folder; the first call imports their compiler."""
    return _import(operation, "cpu" if device.type == "cpu" else "gpu")


def match_torch_threads(numbers: int) -> int:
    """Let Numba's parallel loops use as many threads as torch, or as many as Numba has, and return that number.

    Numba's threads are others than torch's, and both spin while they wait: work on few numbers is left to one thread,
    which is the caller's.
    """
    import numba

    _start_numba_threads()
    threads = 1 if numbers < _FEW_NUMBERS else min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
    numba.set_num_threads(threads)
    return threads


@cache
def _start_numba_threads() -> None:
    """Start Numba's threads. They may be those of OpenMP, of which Numba takes all it can: torch keeps its number."""
    import numba

    threads = torch.get_num_threads()
    numba.get_num_threads()
    torch.set_num_threads(threads)


@cache
def _import(operation: str, backend: Backend) -> ModuleType:
    return importlib.import_module(f"mlip_kernels.{operation}.{backend}")


@cache
def _installed(package: str) -> bool:
    """Whether a package can be imported; a warning tells, once, where it cannot."""
    if importlib.util.find_spec(package) is not None:
        return True
    warnings.warn(
        f"The package {package} is not installed, so that models run on the slower reference operations: install it.",
        RuntimeWarning,
        stacklevel=3,
    )
    return False
