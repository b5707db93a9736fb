"""Memory of a call, as torch's allocator sees it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
