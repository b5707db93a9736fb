"""Files that appear complete or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def partial_path(path: str | Path) -> Path:
    """Where a file is built before it takes its name."""
    return Path(f"{path}.partial")


@contextmanager
def written_beside(path: str | Path) -> Iterator[Path]:
    """Yield `NAME.partial` to write to; it takes the name `path` when the block ends, and is removed if it raises.

    Whatever happens on the way (error, Ctrl-C, kill, full disk), a file that already had the name stays as it was.
    Missing folders are made.
    """
    partial = partial_path(path)
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        descriptor = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # the contents reach the disk before the name does
        finally:
            os.close(descriptor)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
