"""What the machine can do at best, measured in the run that it is compared with."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from mlip.benchmarks.timing import Stopwatch

# Large enough to leave every cache, small enough for a laptop.
_COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}
_MATRIX_SIZE = {"cpu": 1536, "cuda": 8192}
_REPEATS = 8


@dataclass(frozen=True)
class Roofline:
    """The two bounds of the roofline model (Williams, Waterman, Patterson, CACM 52, 65 (2009)).

    Attributes:
        flops: Additions and multiplications a second, of a large matrix product.
        bandwidth: Bytes a second, of a copy between two large arrays; what is read and what is written counts.
    """

    flops: float
    bandwidth: float

    def attainable(self, flops: int, nbytes: int) -> float:
        """Flops a second that a computation of so many flops can reach which moves so many bytes through memory."""
        return min(self.flops, flops / nbytes * self.bandwidth)


def measure_roofline(device: torch.device, dtype: torch.dtype) -> Roofline:
    """The best of a few repetitions, with the threads that torch has now."""
    size = _MATRIX_SIZE[device.type]
    left, right = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty_like(left)
    multiply = fastest(lambda: torch.mm(left, right, out=product), device)
    return Roofline(2 * size**3 / multiply, copy_bandwidth(device, dtype))


def copy_bandwidth(device: torch.device, dtype: torch.dtype) -> float:
    """Bytes a second of a copy between two large arrays, the best of a few."""
    source = torch.ones(_COPY_BYTES[device.type] // dtype.itemsize, device=device, dtype=dtype)
    target = torch.empty_like(source)
    return 2 * source.nbytes / fastest(lambda: target.copy_(source), device)


def fastest(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of a few calls."""
    stopwatch = Stopwatch.of(device)
    return min(stopwatch.time(lambda: call) for _ in range(_REPEATS))
