"""What every verb prints with: one console on stdout and one progress bar on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console

# Tables and results are what should stand out, not every number. `console.out` prints text that may hold brackets.
console = Console(highlight=False)


class ProgressBar(Protocol):
    """What `progress` yields."""

    def advance(self, n: int = 1) -> None:
        """Count `n` more steps as done."""

    def note(self, text: str) -> None:
        """Show a short text, such as the current loss or temperature, at the end of the bar."""


class _SilentBar:
    """Shows nothing, so that logs and pipes stay free of bars."""

    def advance(self, n: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[ProgressBar]:
    """A progress bar on stderr for a loop of `total` steps (None: unknown); silent where stderr is no terminal.

    The bar disappears at the end, whether the loop ends or raises.
    """
    terminal = Console(stderr=True)
    if not terminal.is_terminal:
        yield _SilentBar()
        return

    # Only a bar that is seen is worth the import.
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=terminal,
        transient=True,
    )
    task = bars.add_task(description, total=total, note="")

    class TerminalBar:
        def advance(self, n: int = 1) -> None:
            bars.advance(task, n)

        def note(self, text: str) -> None:
            bars.update(task, note=text)

    with bars:
        yield TerminalBar()
