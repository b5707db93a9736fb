"""Tells who waits at a terminal what for."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def notice_of_compiling(title: str, source: Path) -> Iterator[None]:
    """Around the compilation of a program: say so on stderr, with the seconds, where that is a terminal.

    Args:
        title: What the program computes, a sentence.
        source: File of the program; nothing is said where Numba has kept the machine code of it.
    """
    kept = any((source.parent / "__pycache__").glob(f"{source.stem}.*.nbc"))
    if kept or not sys.stderr.isatty():
        yield
        return
    sys.stderr.write(f"Compiling for this CPU, once: {title[:1].lower()}{title[1:].rstrip('.')} … ")
    sys.stderr.flush()
    start = time.perf_counter()
    try:
        yield
    finally:
        sys.stderr.write(f"{time.perf_counter() - start:.1f} s\n")
