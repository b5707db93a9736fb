"""Timing that is fair to all contenders: one clock, rounds interleaved, medians with their spread."""

import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

Name = TypeVar("Name")
# Prepares a call outside the clock and returns what is timed.
Step = Callable[[], Callable[[], Any]]

# TorchScript, which e3nn uses, optimises what it has seen twice.
WARM_UP_CALLS = 3
FEWEST_ROUNDS, MOST_ROUNDS = 5, 200


class Statistics(NamedTuple):
    """Of the rounds of one contender, in seconds."""

    median: float
    p20: float
    p80: float
    mean: float
    rounds: int


@dataclass(frozen=True)
class Stopwatch:
    """Times calls on a device.

    Attributes:
        clock: Seconds of a clock that only goes forward.
        synchronise: Waits until the device has done what was asked of it; a GPU answers before it has.
    """

    clock: Callable[[], float] = time.perf_counter
    synchronise: Callable[[], None] = lambda: None

    @classmethod
    def of(cls, device: torch.device) -> "Stopwatch":
        """The stopwatch for a device."""
        if device.type == "cuda":
            return cls(synchronise=lambda: torch.cuda.synchronize(device))
        return cls()

    def time(self, step: Step) -> float:
        """Seconds of one call, its preparation not counted."""
        call = step()
        self.synchronise()
        start = self.clock()
        result = call()
        self.synchronise()
        seconds = self.clock() - start
        # Freeing the result is not the contender's work.
        del result
        return seconds

    def warm_up(self, step: Step, limit: float) -> float:
        """Call a few times, since early calls may compile or fill caches, or once where it takes longer than `limit`.

        Returns:
            Seconds of the last call.
        """
        for _ in range(WARM_UP_CALLS):
            seconds = self.time(step)
            if seconds > limit:
                break
        return seconds


def interleave(steps: Mapping[Name, Step], budget: float, stopwatch: Stopwatch) -> dict[Name, Statistics]:
    """Time warm contenders in rounds, so that whatever slows the machine for a while slows all of them alike.

    Each round calls every contender once, in a new order, so that none always pays for what the same other one leaves
    in caches and allocator. The number of rounds is the same for all, and follows from the first round.

    Args:
        steps: What to time, by name.
        budget: Seconds for everything, unless the fewest rounds take longer.
        stopwatch: Of the device that the steps run on.
    """
    names = list(steps)
    seconds: dict[Name, list[float]] = {name: [] for name in names}
    rounds = FEWEST_ROUNDS
    order = random.Random(0)
    done = 0
    with _garbage_kept():
        start = stopwatch.clock()
        while done < rounds:
            for name in order.sample(names, len(names)):
                seconds[name].append(stopwatch.time(steps[name]))
            done += 1
            if done == 1:
                affordable = budget / max(stopwatch.clock() - start, 1e-9)
                rounds = int(np.clip(affordable, FEWEST_ROUNDS, MOST_ROUNDS))
    return {name: statistics(seconds[name]) for name in names}


def statistics(seconds: list[float]) -> Statistics:
    """Median, 20th and 80th percentile, interpolated, and mean."""
    p20, median, p80 = np.percentile(seconds, (20, 50, 80)).tolist()
    return Statistics(median, p20, p80, float(np.mean(seconds)), len(seconds))


@contextmanager
def torch_threads(number: int | None) -> Iterator[None]:
    """Let torch use so many threads for a while; None leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if number is None else number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Collect garbage now, and not in the middle of a measurement."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
