"""Reads the files that `torch.save` writes, without running any code that they hold or name."""

import os
from typing import Any

from mlip.interop.allowed import AllowedNames
from mlip.interop.archive import CheckpointArchive, Storage
from mlip.interop.pickle_machine import PickleMachine, damaged


def read_checkpoint(path: str | os.PathLike[str]) -> Any:
    """The object in a file that `torch.save` wrote.

    Tensors, numbers, texts and containers come back as they were (tensors on the CPU, without gradients). Objects of
    classes that are allowed come back as `Record`s, and classes and functions as `Global`s, which hold only data. No
    package that the file names is needed or imported.

    Args:
        path: The file, of torch 1.6 or later.

    Raises:
        FileMissingError: there is no such file.
        CheckpointError: it is damaged, of another format, or holds a name that is not on the list of those allowed.
    """
    archive = CheckpointArchive(path)
    try:

        def storage(identity: Any) -> Storage:
            if not isinstance(identity, tuple) or len(identity) != 5 or identity[0] != "storage":
                raise damaged("a reference to no storage")
            _, storage_type, key, _, size = identity
            return archive.storage(storage_type, key, size)

        return PickleMachine(AllowedNames(), storage).run(archive.read("data.pkl"))
    finally:
        archive.close()
