"""Which backend is the fastest for a product: measured on this machine once, and remembered."""

import hashlib
import json
import platform
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import torch

from mlip._version import __version__
from mlip.errors import ConfigError
from mlip.tensor_products.backend import Backend, backend_class, backends, build_backend
from mlip.tensor_products.spec import ProductSpec
from mlip.tensor_products.user_cache import cache_folder, keep

# TorchScript, which a backend from outside may use, optimises what it has seen twice.
_WARM_UP_CALLS = 3
_ROUNDS = 7
# What is slower than the fastest by this factor after warm-up is out of the question, and is not timed again.
_HOPELESS = 5.0
# Choices that no file could keep, for the time of this process.
_unkept: dict[str, str] = {}


def fastest_backend(
    spec: ProductSpec,
    channels: int,
    channels_in2: int,
    batch: int = 2000,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> str:
    """Name of the backend that computes a product exactly and, with its derivatives, in the shortest time.

    The choice is kept in the user's folder for caches, so that the same machine, number of threads, versions and
    backends choose the same. A damaged file is made anew; a folder that cannot be written costs the measurement in
    every process.

    Args:
        spec: What to compute.
        channels: Channels of the first operand and of the result.
        channels_in2: Channels of the second operand.
        batch: Rows.
        dtype: Of the operands.
        device: Where they are.

    Raises:
        ConfigError: no backend computes the spec exactly.
    """
    able = _able(spec)
    if len(able) == 1:
        return able[0]
    key = _key(spec, channels, channels_in2, batch, dtype, device)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    folder = cache_folder("advisor")
    path = folder / f"{digest}.json" if folder is not None else None
    chosen = (_read(path, key) if path is not None else None) or _unkept.get(digest)
    if chosen in able:
        return chosen
    seconds = measure_backends(spec, channels, channels_in2, batch, dtype, device)
    if not seconds:
        raise ConfigError(
            f"no backend computes the coupling '{spec.coupling}' with '{spec.weights}' weights exactly: "
            "choose other weights, or name a backend that approximates."
        )
    chosen = min(seconds, key=lambda name: seconds[name])
    content = json.dumps({"key": key, "seconds": seconds, "fastest": chosen}, indent=2)
    if path is None or not keep(path, content.encode()):
        _unkept[digest] = chosen
    return chosen


def measure_backends(
    spec: ProductSpec,
    channels: int,
    channels_in2: int,
    batch: int = 2000,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> dict[str, float]:
    """Median seconds of a product and its derivatives by every backend that computes it exactly, with its own options.

    Backends take turns, so that whatever slows the machine for a while slows all of them alike. Of one that is several
    times slower than the fastest, a single call is timed. Arguments are those of `fastest_backend`.
    """
    # Whoever builds a model without gradients still wants one that trains fast.
    with torch.inference_mode(False), torch.enable_grad():
        calls = {
            name: _call(backend.to(device), channels, channels_in2, batch, dtype, torch.device(device))
            for name, backend in _exact(spec).items()
        }
        first = {name: [_seconds(call) for _ in range(_WARM_UP_CALLS)][-1] for name, call in calls.items()}
        limit = _HOPELESS * min(first.values(), default=0.0)
        rounds: dict[str, list[float]] = {name: [] for name in calls if first[name] <= limit}
        for _ in range(_ROUNDS):
            for name, times in rounds.items():
                times.append(_seconds(calls[name]))
    return first | {name: median(times) for name, times in rounds.items()}


def _able(spec: ProductSpec) -> list[str]:
    """Backends that declare to compute the coupling and the weights of a spec; some cannot be imported."""
    able = []
    for name in backends():
        try:
            declared = backend_class(name)
        except ConfigError:
            continue
        if spec.coupling in declared.couplings and spec.weights in declared.weight_structures:
            able.append(name)
    return able


def _exact(spec: ProductSpec) -> dict[str, Backend]:
    """Backends that compute a spec exactly, ready to run; those that refuse it for another reason are left out."""
    built = {}
    for name in _able(spec):
        try:
            backend = build_backend(name, spec, {})
        except ConfigError:
            continue
        if backend.exact:
            built[name] = backend
    return built


def _call(
    backend: Backend, channels: int, channels_in2: int, batch: int, dtype: torch.dtype, device: torch.device
) -> Callable[[], Any]:
    """A product of normal operands and the gradients of all of them."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype).to(device)

    d1, d2, d3 = backend.spec.dims
    gradient = normal(batch, d3, channels)
    x, y = normal(batch, d1, channels).requires_grad_(), normal(batch, d2, channels_in2).requires_grad_()
    rows = backend.spec.weight_rows
    weight = normal(batch, rows, channels).requires_grad_() if rows else None
    inputs = [each for each in (x, y, weight) if each is not None]

    def call() -> None:
        torch.autograd.grad(backend(x, y, weight), inputs, gradient)
        if device.type == "cuda":
            # A GPU answers before it has done what it was asked for.
            torch.cuda.synchronize(device)

    return call


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _key(
    spec: ProductSpec, channels: int, channels_in2: int, batch: int, dtype: torch.dtype, device: str
) -> dict[str, Any]:
    """All that the choice depends on, as JSON."""
    return {
        "irreps": [[str(irrep) for irrep in irreps] for irreps in spec.operands],
        "coupling": spec.coupling,
        "weights": spec.weights,
        "channels": [channels, channels_in2],
        "batch": batch,
        "dtype": str(dtype),
        "device": _processor() if torch.device(device).type == "cpu" else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),
        "backends": backends(),
        "versions": {"mlip": __version__, "torch": torch.__version__},
    }


@cache
def _processor() -> str:
    """Name of the processor, as well as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _read(path: Path, key: dict[str, Any]) -> str | None:
    """The choice that a file keeps; None where there is no file, or a damaged one."""
    try:
        kept = json.loads(path.read_bytes())
        fastest: str = kept["fastest"]
        return fastest if kept["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
