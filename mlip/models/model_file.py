"""The model file `NAME.mlip`: safetensors with a JSON header. Nothing in it is ever executed."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from mlip._version import __version__
from mlip.errors import ConfigError, FileMissingError, ModelFileError
from mlip.models.build import build_model, torch_dtype
from mlip.models.config import parse_model_config
from mlip.models.potential import Potential

FORMAT_VERSION = 1
UNITS = {"length": "Å", "energy": "eV", "forces": "eV/Å", "stress": "eV/Å³"}
# The one key of safetensors' own metadata, whose values can only be strings.
_HEADER_KEY = "mlip"


def save(model: Potential, path: str | os.PathLike[str], provenance: dict[str, Any] | None = None) -> None:
    """Write a model to one file, beside the old one first, which is replaced only when the new one is complete.

    Args:
        model: The potential.
        path: File to write, by custom `NAME.mlip`.
        provenance: What the model was trained on, as JSON values; the model's own where not given.
    """
    header = {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "config": model.config.model_dump(mode="json"),
        "elements": model.elements,
        "reference_energies": dict(zip(model.elements, model.reference_energies.values.tolist(), strict=True)),
        "units": UNITS,
        "dtype": str(model.dtype).removeprefix("torch."),
        "provenance": model.provenance if provenance is None else provenance,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_beside(Path(path), to_bytes(tensors, metadata={_HEADER_KEY: json.dumps(header)}))


def write_beside(path: Path, content: bytes) -> None:
    """Write a file under another name beside `path`, then rename it, so that `path` is always whole."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a model file's header, without its tensors.

    Raises:
        FileMissingError: there is no such file.
        ModelFileError: it is damaged, no model file, or of a format that this version cannot read.
    """
    _require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"'{path}' is damaged or no model file ({error}); copy or train it again.") from None
    if _HEADER_KEY not in metadata:
        raise ModelFileError(f"'{path}' is a safetensors file but no model of this package; give a .mlip file.")
    try:
        header: dict[str, Any] = json.loads(metadata[_HEADER_KEY])
        version = header["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ModelFileError(f"the header of '{path}' is damaged; copy or train the model again.") from None
    if version != FORMAT_VERSION:
        raise ModelFileError(
            f"'{path}' has model format {version} and this version of the package reads format {FORMAT_VERSION}; "
            f"install the version that wrote it ({header.get('package_version', 'unknown')})."
        )
    return header


def load(path: str | os.PathLike[str], dtype: str | None = None, device: str | None = None) -> Potential:
    """Read a model file, in evaluation mode.

    Args:
        path: The file.
        dtype: "float32" or "float64"; that of the file where not given.
        device: A torch device, for example "cuda"; "cpu" where not given.

    Raises:
        FileMissingError: there is no such file.
        ModelFileError: it is damaged, no model file, or of a format that this version cannot read.
        ConfigError: the dtype is unknown.
    """
    header = read_header(path)
    try:
        model = build_model(parse_model_config(header["config"]), str(header["dtype"]))
        with safe_open(path, framework="pt") as file:
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, KeyError, RuntimeError, ConfigError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ModelFileError(f"'{path}' does not hold a whole model ({reason}); copy or train it again.") from None
    model.provenance = header.get("provenance", {})
    if dtype is not None:
        model = model.to(torch_dtype(dtype))
    return model.to(torch.device(device or "cpu")).eval()


def _require_file(path: str | os.PathLike[str]) -> None:
    if not Path(path).is_file():
        raise FileMissingError(f"there is no model file '{path}'; check the path.")
