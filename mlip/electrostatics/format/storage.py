"""Fields in HDF5 files: core, factors and box. Nothing in a file is ever executed.

The file begins with a block of text, which HDF5 calls user block and skips: kind, version and checksum of all that
follows. It is checked first, because HDF5's own reading of a damaged file may invent values or never end.
"""

import hashlib
import io
import os
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from mlip._version import __version__
from mlip.electrostatics.format.tucker import Tucker
from mlip.errors import DataError, FileMissingError

FORMAT = "mlip Chebyshev-Tucker field"
FORMAT_VERSION = 1
HEADER_BYTES = 512
_NAMES = ("core", "factor_x", "factor_y", "factor_z", "box")


def save(path: str | os.PathLike[str], tensor: Tucker, box: torch.Tensor, error_estimate: float) -> None:
    """Write a field under another name beside `path`, then rename it, so that `path` is always whole."""
    content = io.BytesIO()
    with h5py.File(content, "w", userblock_size=HEADER_BYTES) as file:
        file.attrs.update(package_version=__version__, error_estimate=error_estimate)
        for name, array in zip(_NAMES, (tensor.core, *tensor.factors, box), strict=True):
            file.create_dataset(name, data=array.detach().cpu().numpy(), dtype="<f8")
    body = content.getvalue()[HEADER_BYTES:]
    partial = Path(f"{os.fspath(path)}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as target:
            target.write(header(body) + body)
            target.flush()
            os.fsync(target.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def header(body: bytes) -> bytes:
    """The block of text before the HDF5 content of a file."""
    lines = f"{FORMAT}\nversion {FORMAT_VERSION}\nsha256 {hashlib.sha256(body).hexdigest()}\n"
    return lines.encode().ljust(HEADER_BYTES, b"\0")


def load(path: str | os.PathLike[str]) -> tuple[Tucker, torch.Tensor, float]:
    """Tensor, box and error estimate of a file written by `save`.

    Raises FileMissingError, or DataError for a file that is damaged, of another kind or of a later format.
    """
    if not Path(path).is_file():
        raise FileMissingError(f"There is no file '{path}': check the name.")
    try:
        content = Path(path).read_bytes()
        _check_header(content, path)
        with h5py.File(io.BytesIO(content), "r") as file:
            core, x, y, z, box = (_array(file, name, path) for name in _NAMES)
            error_estimate = float(file.attrs["error_estimate"])
    except DataError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _damaged(path, str(error)) from None
    fits = core.ndim == 3 and box.shape == (2, 3) and bool((box[0] < box[1]).all())
    for rank, factor in zip(core.shape, (x, y, z), strict=False):
        fits = fits and factor.ndim == 2 and factor.shape[1] == rank and len(factor) >= rank >= 1
    if not fits or not error_estimate >= 0:
        raise _damaged(path, "its arrays do not fit each other")
    tensor = Tucker(torch.from_numpy(core), (torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(z)))
    return tensor, torch.from_numpy(box), error_estimate


def _check_header(content: bytes, path: str | os.PathLike[str]) -> None:
    kind, _, rest = content[:HEADER_BYTES].partition(b"\n")
    if kind != FORMAT.encode():
        raise DataError(f"'{path}' is damaged or no Chebyshev-Tucker field; give a file that save() wrote.")
    version = rest.partition(b"\n")[0].decode(errors="replace").removeprefix("version ")
    if version != str(FORMAT_VERSION):
        raise DataError(f"'{path}' has format {version!r}, this version reads {FORMAT_VERSION}: update the package.")
    if content[:HEADER_BYTES] != header(content[HEADER_BYTES:]):
        raise _damaged(path, "its checksum is another")


def _array(file: h5py.File, name: str, path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """An array that lies in this very file, as large as it says; links and virtual data may lead anywhere."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise _damaged(path, f"it has no array '{name}' of its own")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype != np.dtype("<f8") or dataset.external:
        raise _damaged(path, f"'{name}' is no array of float64")
    if dataset.is_virtual or dataset.compression or not dataset.nbytes <= dataset.id.get_storage_size():
        raise _damaged(path, f"the array '{name}' is not stored in full")
    values: NDArray[np.float64] = dataset[()]
    if not np.isfinite(values).all():
        raise _damaged(path, f"'{name}' holds NaN or infinity")
    return values


def _damaged(path: str | os.PathLike[str], reason: str) -> DataError:
    return DataError(f"'{path}' is damaged or no field file ({reason}); copy it again or save the field anew.")
