"""Models for inference: on the device and in the precision asked for, with frozen weights."""

import warnings
from copy import deepcopy
from os import PathLike

import torch

from mlip.errors import ConfigError
from mlip.models import Potential, load
from mlip.models.build import torch_dtype
from mlip.models.compiled import CompiledPotential, why_not_compiled


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device named, or for None the GPU if there is one, else the CPU.

    Raises:
        ConfigError: there is no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"there is no device '{device}'; use 'cpu', 'cuda' or 'cuda:N'.") from None
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device '{device}' was asked for, but {torch.cuda.device_count()} GPUs are there; use 'cpu'."
        )
    return chosen


def load_for_inference(
    model: str | PathLike[str] | Potential, device: str | torch.device | None = None, dtype: str = "float32"
) -> Potential:
    """A potential in evaluation mode from a file, or a copy of one in memory, which stays as it is.

    Raises:
        ConfigError: there is no such device or dtype.
        FileMissingError, ModelFileError: the file cannot be read.
    """
    target = choose_device(device)
    if isinstance(model, str | PathLike):
        own = load(model, dtype=dtype, device=str(target))
    else:
        own = deepcopy(model).to(device=target, dtype=torch_dtype(dtype)).eval()
    # Without gradients of the weights there is less to record in every call.
    return own.requires_grad_(False)


def compile_where_possible(model: Potential) -> CompiledPotential | None:
    """The compiled form of a potential, or None where only its torch form runs.

    That a model is on a GPU, that Numba is missing or that tensor products are of another kind goes without saying.
    A warning tells of a model whose radial functions no table follows closely enough.
    """
    if not isinstance(model, Potential) or why_not_compiled(model) is not None:
        return None
    try:
        return model.compile_for_inference()
    except ConfigError as error:
        warnings.warn(f"the model runs many times slower than if it were compiled: {error}", stacklevel=2)
        return None
