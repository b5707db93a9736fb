"""Files in the user's folder for caches, which spare what is slow to compute a second time."""

import os
import tempfile
from pathlib import Path


def cache_folder(subject: str) -> Path | None:
    """Folder of a subject, `mlip/<subject>` below `$XDG_CACHE_HOME` or `~/.cache`; it need not exist.

    Returns:
        The folder; None where the user has no home.
    """
    # The XDG specification: a folder that is not absolute counts as not given.
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given / "mlip" / subject
    try:
        return Path.home() / ".cache" / "mlip" / subject
    except RuntimeError:
        return None


def keep(path: Path, content: bytes) -> bool:
    """Write a file beside its place and rename it, so that a reader never sees half of it.

    Returns:
        Whether it was kept: a folder that cannot be written is no error.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)
    except OSError:
        return False
    return True
