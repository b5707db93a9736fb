"""Where compiled programs are kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where compiled programs are kept: `tensor-mlip/kernels` in the user's cache, or MLIP_KERNEL_CACHE."""
    chosen = os.environ.get("MLIP_KERNEL_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensor-mlip" / "kernels"
