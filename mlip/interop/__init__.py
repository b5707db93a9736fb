"""Checkpoints of other packages, read without running anything that is in them."""

import os
from collections.abc import Sequence

from mlip.errors import CheckpointError
from mlip.interop.mace_torch import read_mace_torch
from mlip.interop.mace_torch_description import is_mace_torch
from mlip.interop.sevennet import is_sevennet, read_sevennet
from mlip.interop.unpickling import read_checkpoint
from mlip.models import Potential

__all__ = ["import_checkpoint", "read_checkpoint"]


def import_checkpoint(
    path: str | os.PathLike[str], elements: Sequence[str] | None = None, head: str | None = None
) -> Potential:
    """The potential of another package's checkpoint: a model of mace-torch, or a checkpoint of SevenNet.

    Args:
        path: The file; which package wrote it, its contents tell.
        elements: Chemical symbols to keep; all of the model's by default.
        head: Name of the head to keep, of mace-torch models with several.

    Returns:
        Ours, in float64 and evaluation mode.

    Raises:
        FileMissingError: there is no such file.
        CheckpointError: it is damaged, holds what is not allowed, or a model that has no counterpart here.
        ConfigError: an element is not known.
    """
    checkpoint = read_checkpoint(path)
    if is_mace_torch(checkpoint):
        return read_mace_torch(checkpoint, elements, head)
    if not is_sevennet(checkpoint):
        raise CheckpointError(
            f"'{os.fspath(path)}' holds neither a model of mace-torch nor a SevenNet checkpoint; give a .model file "
            "of mace-torch, saved as a whole, or a checkpoint that SevenNet's training wrote."
        )
    if head is not None:
        raise CheckpointError(f"the SevenNet checkpoint has no heads, and '{head}' was asked for; leave it out.")
    return read_sevennet(checkpoint, elements)
