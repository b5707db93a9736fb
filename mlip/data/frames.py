"""Frames of an XYZ file as text: they are counted, copied and located in errors without a look at the numbers."""

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from ase.io.formats import open_with_compression

from mlip.errors import DataError


def frame_name(path: str | Path, index: int) -> str:
    """How errors name a frame; ASE counts from 0 too (`file.xyz@3`)."""
    return f"{path}, frame {index} (counted from 0)"


def iterate_frame_texts(path: str | Path) -> Iterator[str]:
    """The lines of each frame of a plain or extended XYZ file, compressed or not, exactly as they stand there.

    Blank lines between frames are passed over. Raises DataError, naming the frame, where a frame does not start
    with a number of atoms or ends before its last atom, or where the file is no text.
    """
    index = 0
    try:
        with open_with_compression(str(path), "r") as file:
            header = _next_line_with_text(file)
            while header:
                lines = _frame_lines(file, header, frame_name(path, index))
                header = file.readline()
                while header.lstrip().startswith("VEC"):  # cell vectors after the atoms, an older dialect
                    lines.append(header)
                    header = file.readline()
                yield "".join(lines)
                index += 1
                if header and not header.strip():
                    header = _next_line_with_text(file)
    except (UnicodeDecodeError, EOFError) as error:
        raise DataError(f"{frame_name(path, index)} is no text ({error}); the file is damaged, get it anew") from error


def _next_line_with_text(file: TextIO) -> str:
    line = file.readline()
    while line and not line.strip():
        line = file.readline()
    return line


def _frame_lines(file: TextIO, header: str, where: str) -> list[str]:
    try:
        count = int(header)
    except ValueError:
        raise DataError(
            f"{where} starts with '{header.strip()[:40]}' instead of a number of atoms; "
            "the frame before it or the file is damaged"
        ) from None
    lines = [header, *(file.readline() for _ in range(count + 1))]
    complete = [line for line in lines[2:] if line.strip()]
    if count and lines[-1] and not lines[-1].endswith("\n"):  # the end of the file, perhaps in the middle of a line
        if len(lines[-1].split()) < len(lines[2].split()):
            complete = complete[:-1]
        lines[-1] += "\n"
    if not lines[1] or len(complete) < count:
        raise DataError(f"{where} has {len(complete)} of its {count} atoms; the file is truncated, get it anew")
    return lines
