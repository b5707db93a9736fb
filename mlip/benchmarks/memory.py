"""Memory of a call, as torch's allocator sees it, or as the operating system does."""

import ctypes
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


def peak_memory(call: Callable[[], Any], device: torch.device) -> int:
    """Largest number of bytes that a call holds at one time beyond what was there before.

    Only what torch allocates counts: a compiled library's own workspace and numpy arrays do not. The operands are there
    before. On a CPU the allocations and releases are added up in the order that the profiler recorded them.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with _quiet_profiler(), torch.autograd.profiler.profile(profile_memory=True) as profile:
        result = call()
    del result
    held = peak = 0
    events = [event for event in profile.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def resident_growth(call: Callable[[], Any]) -> int | None:
    """Bytes by which the memory of this process grows at most during a call, whoever allocates them.

    None where the system does not tell; Linux does.
    """
    _return_what_is_free()
    try:
        # Sets the peak to what is resident now.
        Path("/proc/self/clear_refs").write_text("5")
        before = _resident("VmRSS")
        call()
        return _resident("VmHWM") - before
    except OSError:
        return None


def _return_what_is_free() -> None:
    """Give freed memory back to the system, so that what is used again counts; glibc would keep it."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _resident(name: str) -> int:
    """Bytes that the kernel names so."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {name}.")


@contextmanager
def _quiet_profiler() -> Iterator[None]:
    """Keep the profiler from announcing itself on stderr; it reads its log level once, at its first start."""
    name = "KINETO_LOG_LEVEL"
    before = os.environ.get(name)
    os.environ.setdefault(name, "9")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
