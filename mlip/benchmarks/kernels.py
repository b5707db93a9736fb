"""Every operation's kernel on the CPU against its reference, and against the roofline of the machine."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlip.benchmarks.records import failure
from mlip.benchmarks.roofline import Roofline
from mlip.benchmarks.timing import Step, Stopwatch, interleave


@dataclass(frozen=True)
class Work:
    """What one call has to do at least.

    Attributes:
        flops: Additions and multiplications.
        bytes: Read and written, every number once.
    """

    flops: int
    bytes: int


@dataclass(frozen=True)
class KernelCase:
    """A kernel and its reference, ready to be called.

    Attributes:
        operation: Folder of `mlip_kernels`.
        measured: Which of its functions or passes.
        reference: Prepares a call of the reference outside the clock, and returns it.
        kernel: The same for the kernel.
        work: That of the kernel.
    """

    operation: str
    measured: str
    reference: Step
    kernel: Step
    work: Work


@dataclass(frozen=True)
class KernelRecord:
    """What was measured of a case.

    Attributes:
        reason: Why nothing was; "" if it was.
        kernel_ms, reference_ms: Medians of `rounds` rounds.
        speedup: The reference's time over the kernel's.
        gflops, gbytes: 1e9 of `flops` and `bytes` a second.
        roofline_fraction: Shortest time that the machine's peaks allow for these flops and bytes, over the kernel's.
    """

    operation: str
    measured: str
    reason: str = ""
    kernel_ms: float | None = None
    kernel_p20_ms: float | None = None
    kernel_p80_ms: float | None = None
    reference_ms: float | None = None
    speedup: float | None = None
    rounds: int | None = None
    flops: int | None = None
    bytes: int | None = None
    gflops: float | None = None
    gbytes: float | None = None
    roofline_fraction: float | None = None


def passes(
    operation: str,
    reference: Callable[..., Tensor],
    kernel: Callable[..., Tensor],
    operands: Sequence[Tensor],
    forward: Work,
    backward: Work,
) -> Iterator[KernelCase]:
    """The cases of an operation that torch differentiates: forward, and the gradients of all operands.

    Operands that are not floating-point are passed on as they are. The graph of the gradients is not timed.
    """
    yield KernelCase(operation, "forward", _forward(reference, operands), _forward(kernel, operands), forward)
    yield KernelCase(operation, "gradients", _backward(reference, operands), _backward(kernel, operands), backward)


def run_cases(cases: Iterable[KernelCase], roofline: Roofline, seconds: float) -> Iterator[KernelRecord]:
    """Measure cases one after another, each kernel in turns with its reference for so many seconds."""
    for case in cases:
        try:
            yield _measure(case, roofline, seconds)
        except Exception as error:
            yield KernelRecord(case.operation, case.measured, failure(error))


def _measure(case: KernelCase, roofline: Roofline, seconds: float) -> KernelRecord:
    stopwatch = Stopwatch()
    steps = {"kernel": case.kernel, "reference": case.reference}
    for step in steps.values():
        stopwatch.warm_up(step, limit=seconds)
    found = interleave(steps, seconds, stopwatch)
    kernel = found["kernel"]
    least = max(case.work.flops / roofline.flops, case.work.bytes / roofline.bandwidth)
    return KernelRecord(
        operation=case.operation,
        measured=case.measured,
        kernel_ms=1e3 * kernel.median,
        kernel_p20_ms=1e3 * kernel.p20,
        kernel_p80_ms=1e3 * kernel.p80,
        reference_ms=1e3 * found["reference"].median,
        speedup=found["reference"].median / kernel.median,
        rounds=kernel.rounds,
        flops=case.work.flops,
        bytes=case.work.bytes,
        gflops=case.work.flops / kernel.median / 1e9,
        gbytes=case.work.bytes / kernel.median / 1e9,
        roofline_fraction=least / kernel.median,
    )


def _forward(call: Callable[..., Tensor], operands: Sequence[Tensor]) -> Step:
    def run() -> Tensor:
        with torch.no_grad():
            return call(*operands)

    return lambda: run


def _backward(call: Callable[..., Tensor], operands: Sequence[Tensor]) -> Step:
    def prepare() -> Callable[[], Any]:
        inputs = [each.detach().requires_grad_(each.is_floating_point()) for each in operands]
        result = call(*inputs)
        cotangent = torch.ones_like(result)
        wanted = [each for each in inputs if each.requires_grad]
        return lambda: torch.autograd.grad(result, wanted, cotangent)

    return prepare
