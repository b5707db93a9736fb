"""What several verbs of `mlip bench` share: options, the device, and what becomes of an interrupted run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlip.cli.console import console

if TYPE_CHECKING:
    import torch

    from mlip.benchmarks.electrostatics import ElectrostaticsRecord
    from mlip.benchmarks.model import ModelRecord
    from mlip.benchmarks.records import Record

Threads = Annotated[int | None, typer.Option(min=1, help="Threads of torch; by default as many as it likes.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder of the results; replaced if they exist.")]
Backends = Annotated[
    str | None,
    typer.Option(
        help="Such as spherical_grid,cp:rank=31; options after colons.", show_default="all that are installed"
    ),
]
Quick = Annotated[bool, typer.Option("--quick", help="Shorter measurements, and less that is measured.")]


def timed_device(device: str | None) -> "torch.device":
    """The device of that name, or the usual one.

    Raises:
        ConfigError: there is no such device, or it cannot be timed.
    """
    from mlip.calculators.loading import choose_device
    from mlip.errors import ConfigError

    chosen = choose_device(device)
    if chosen.type not in ("cpu", "cuda"):
        raise ConfigError(f"'{device}' cannot be timed: use 'cpu', 'cuda' or 'cuda:N'.")
    return chosen


@contextmanager
def kept_when_interrupted(
    output: Path, records: "Sequence[Record | ModelRecord | ElectrostaticsRecord]"
) -> Iterator[None]:
    """Say where the results are that were written before an interrupt."""
    try:
        yield
    except KeyboardInterrupt:
        if any(record.median_ms is not None for record in records):
            typer.echo(f"What was measured so far is in {output}.", err=True)
        raise


def print_skipped(number: int) -> None:
    """Say how much was skipped."""
    if number:
        console.out(f"Skipped, for reasons in table.md: {number}")
