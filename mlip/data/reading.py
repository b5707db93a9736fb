"""Reading structures from anything ASE reads, or from a store, one at a time and with errors that name the frame."""

from collections.abc import Iterator
from io import StringIO
from itertools import islice
from pathlib import Path

import ase.io
from ase import Atoms
from ase.io.extxyz import read_xyz
from ase.io.formats import UnknownFileTypeError, filetype

from mlip.data.frames import frame_name, iterate_frame_texts
from mlip.data.labels import DEFAULT_KEYS, LabelKeys, Property, candidate_keys, suggest_key
from mlip.data.store import StructureStore, is_store
from mlip.data.structures import Structure
from mlip.errors import DataError, FileMissingError, MLIPError

__all__ = ["LabelKeys", "iterate_structures", "key_hint", "read_structures", "similar_key"]


def iterate_structures(path: str | Path, keys: LabelKeys | None = DEFAULT_KEYS) -> Iterator[Structure]:
    """Structures of a file, read one at a time and validated.

    `path` is a store (`.h5`, `.hdf5`) or anything `ase.io` reads; `keys` says under which names the file keeps its
    labels (None: labels are not read; a store knows its labels itself). A label may be absent in some frames.
    Raises FileMissingError; DataError for a file that is damaged, truncated, empty or of an unknown format, and for
    labels that are misshapen or not finite; StructureError for an unphysical structure.
    """
    check_exists(path)
    if is_store(path):
        yield from StructureStore(path)
        return
    index = -1
    for index, atoms in enumerate(iterate_atoms(path)):
        where = frame_name(path, index)
        structure = Structure.from_atoms(atoms, keys, where)
        structure.validate(where)
        yield structure
    if index < 0:
        raise DataError(f"{path} holds no structure; the file is empty, get it anew")


def check_exists(path: str | Path) -> None:
    """Raise FileMissingError if there is no such file."""
    if not Path(path).exists():
        raise FileMissingError(f"there is no file {path}; check the path (the working folder is {Path.cwd()})")


def read_structures(path: str | Path, keys: LabelKeys | None = DEFAULT_KEYS) -> list[Structure]:
    """All structures of a file at once; see `iterate_structures`."""
    return list(iterate_structures(path, keys))


def is_xyz(path: str | Path) -> bool:
    """Whether ASE takes a file for plain or extended XYZ, compressed or not."""
    return _format(Path(path)) == "extxyz"


def _format(path: Path) -> str:
    try:
        return str(filetype(str(path)))
    except UnknownFileTypeError:
        raise DataError(
            f"{path} is of a format that ASE does not know; convert it, for example to extended XYZ"
        ) from None
    except (EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); the file is damaged or empty, get it anew") from error


def iterate_atoms(path: str | Path) -> Iterator[Atoms]:
    """Frames of a file as ASE reads them. XYZ is cut into frames first: ASE would take a blank line for the end of
    the file, and would not say in which frame an error is."""
    index = 0
    try:
        if is_xyz(path):
            for text in iterate_frame_texts(path):
                yield next(read_xyz(StringIO(text), 0))
                index += 1
        else:
            for atoms in ase.io.iread(str(path), ":"):
                yield atoms
                index += 1
    except MLIPError:
        raise
    except Exception as error:  # ASE's readers raise anything at all on bad input
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"{frame_name(path, index)} cannot be read ({reason}); the file is damaged or not in its format"
        ) from error


def similar_key(path: str | Path, name: Property, keys: LabelKeys) -> str | None:
    """A key of the file that most likely holds a property no frame has under `keys`; None for a store."""
    return None if is_store(path) else suggest_key(name, keys[name], _candidates(Path(path), name))


def key_hint(path: str | Path, name: Property, keys: LabelKeys, option: str = "--key ") -> str:
    """What to do about a property that no frame of a file has: the key to name, or the names there are.

    An empty string where the file has nothing of the right shape. Only the first frames are looked at. `option` is what
    stands before `property=name` where keys are named.
    """
    path = Path(path)
    if is_store(path):
        sources = StructureStore(path).metadata["sources"]
        names = sorted({source["keys"][name] for source in sources if name in (source["keys"] or {})})
        return f"it was imported under the key {' or '.join(names)}: import it again with --key" if names else ""
    candidates = _candidates(path, name)
    suggestion = suggest_key(name, keys[name], candidates)
    if suggestion is not None:
        return f"the file has {', '.join(candidates)}: name it with {option}{name}={suggestion}"
    return f"the file has {', '.join(candidates)}" if candidates else ""


def _candidates(path: Path, name: Property) -> list[str]:
    """Names in the first frames (isolated atoms often come first, and have fewer) with the shape of a property."""
    frames = islice(iterate_atoms(path), 20)
    return list(dict.fromkeys(key for atoms in frames for key in candidate_keys(atoms)[name]))
