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


def match_torch_threads() -> int:
    """Let Numba's parallel loops use as many threads as torch, or as many as Numba has, and return that number."""
    import numba

    from mlip_kernels.simd.program import start_threads

    start_threads()
    threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
    numba.set_num_threads(threads)
    return threads


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
