"""CP fits kept in the user's folder for caches, so that each is made once on a machine."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mlip.tensor_products.cp_fit import ALGORITHM_VERSION, CPFactors, fit, relative_error
from mlip.tensor_products.user_cache import cache_folder, keep

_NAMES = ("a", "b", "c")


def cached_fit(tensor: NDArray[np.float64], rank: int, seed: int, restarts: int) -> CPFactors:
    """The result of `fit`, read from the cache where a fit of the same arguments has been made before.

    A file that is damaged, or whose factors do not have the error that it states, is made anew. A folder that cannot be
    read or written costs the time of the fit and nothing else.
    """
    folder = cache_folder("cp")
    if folder is None:
        return fit(tensor, rank, seed, restarts)
    digest = hashlib.sha256(np.ascontiguousarray(tensor).tobytes())
    digest.update(repr((ALGORITHM_VERSION, tensor.shape, rank, seed, restarts)).encode())
    path = folder / f"{digest.hexdigest()}.safetensors"
    factors = _read(path, tensor, rank)
    if factors is None:
        factors = fit(tensor, rank, seed, restarts)
        arrays = {name: np.ascontiguousarray(factor) for name, factor in zip(_NAMES, factors.factors, strict=True)}
        stated = {"error": factors.error, "seed": factors.seed, "sweeps": factors.sweeps}
        keep(path, save(arrays, metadata={name: repr(value) for name, value in stated.items()}))
    return factors


def _read(path: Path, tensor: NDArray[np.float64], rank: int) -> CPFactors | None:
    """Factors in a file; None where there is none, or where it is not what `cached_fit` wrote."""
    try:
        with safe_open(path, framework="np") as file:
            a, b, c = (file.get_tensor(name) for name in _NAMES)
            metadata = file.metadata() or {}
        stated, seed, sweeps = float(metadata["error"]), int(metadata["seed"]), int(metadata["sweeps"])
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    for factor, size in zip((a, b, c), tensor.shape, strict=True):
        if factor.dtype != np.float64 or factor.shape != (size, rank) or not np.isfinite(factor).all():
            return None
    error = relative_error(tensor, a, b, c)
    # Rounding of another order of summation is all that may come between.
    return CPFactors(a, b, c, error, seed, sweeps) if abs(error - stated) <= 1e-12 else None
