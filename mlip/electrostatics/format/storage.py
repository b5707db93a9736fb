"""Fields in HDF5 files: core, factors and box, with checksums. Nothing in a file is ever executed."""

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
_FACTORS = ("factor_x", "factor_y", "factor_z")


def save(path: str | os.PathLike[str], tensor: Tucker, box: torch.Tensor, error_estimate: float) -> None:
    """Write a field under another name beside `path`, then rename it, so that `path` is always whole."""
    content = io.BytesIO()
    arrays = {"core": tensor.core, **dict(zip(_FACTORS, tensor.factors, strict=True)), "box": box}
    with h5py.File(content, "w") as file:
        file.attrs.update(format=FORMAT, format_version=FORMAT_VERSION, package_version=__version__)
        file.attrs["error_estimate"] = error_estimate
        for name, array in arrays.items():
            values = array.detach().cpu().numpy()
            file.create_dataset(name, data=values, dtype="<f8", chunks=values.shape, fletcher32=True)
    partial = Path(f"{os.fspath(path)}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as target:
            target.write(content.getbuffer())
            target.flush()
            os.fsync(target.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> tuple[Tucker, torch.Tensor, float]:
    """Tensor, box and error estimate of a file written by `save`.

    Raises FileMissingError, or DataError for a file that is damaged, of another kind or of a later format.
    """
    if not Path(path).is_file():
        raise FileMissingError(f"There is no file '{path}': check the name.")
    try:
        with h5py.File(path, "r") as file:
            _check_kind(file, path)
            core, x, y, z, box = (_array(file, name, path) for name in ("core", *_FACTORS, "box"))
            error_estimate = float(file.attrs["error_estimate"])
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, DataError):
            raise
        raise _damaged(path, str(error)) from None
    fits = core.ndim == 3 and box.shape == (2, 3) and bool((box[0] < box[1]).all())
    for rank, factor in zip(core.shape, (x, y, z), strict=False):
        fits = fits and factor.ndim == 2 and factor.shape[1] == rank and len(factor) >= rank >= 1
    if not fits or not error_estimate >= 0:
        raise _damaged(path, "its arrays do not fit each other")
    tensor = Tucker(torch.from_numpy(core), (torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(z)))
    return tensor, torch.from_numpy(box), error_estimate


def _check_kind(file: h5py.File, path: str | os.PathLike[str]) -> None:
    if file.attrs.get("format") != FORMAT:
        raise DataError(f"'{path}' is an HDF5 file but no Chebyshev-Tucker field; give one that save() wrote.")
    version = int(file.attrs["format_version"])
    if version != FORMAT_VERSION:
        raise DataError(f"'{path}' has format {version}, this version reads {FORMAT_VERSION}: update the package.")


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
