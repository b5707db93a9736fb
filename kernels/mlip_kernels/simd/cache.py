"""Where compiled programs are kept."""

import atexit
import os
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path

_VARIABLE = "MLIP_KERNEL_CACHE"


def cache_folder() -> Path:
    """Where compiled programs are kept: `tensor-mlip/kernels` in the user's cache, or MLIP_KERNEL_CACHE."""
    chosen = os.environ.get(_VARIABLE)
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensor-mlip" / "kernels"


@cache
def folder_of_this_process(refused: Path, reason: str | None) -> Path:
    """A folder in place of one that cannot be written to, gone when the process ends; a warning tells once."""
    warnings.warn(
        f"Compiled programs cannot be kept in {refused} ({reason}), so that every process compiles them anew: set "
        f"{_VARIABLE} to a folder that can be written to.",
        RuntimeWarning,
        stacklevel=2,
    )
    folder = Path(tempfile.mkdtemp(prefix="tensor-mlip-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
