"""The zip archive that `torch.save` writes: a pickle, and the bytes of each storage in an entry of its own."""

import os
import sys
import zipfile
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlip.errors import CheckpointError, FileMissingError

# Marks of what is often mistaken for a checkpoint.
_OLD_TORCH_MARK = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."


class StorageType(NamedTuple):
    """A typed storage class of torch, as a checkpoint names it."""

    dtype: torch.dtype


class Storage(NamedTuple):
    """Numbers of one storage, flat, which tensors of the checkpoint are views of."""

    values: Tensor


STORAGE_TYPES = {
    "DoubleStorage": StorageType(torch.float64),
    "FloatStorage": StorageType(torch.float32),
    "HalfStorage": StorageType(torch.float16),
    "BFloat16Storage": StorageType(torch.bfloat16),
    "LongStorage": StorageType(torch.int64),
    "IntStorage": StorageType(torch.int32),
    "ShortStorage": StorageType(torch.int16),
    "CharStorage": StorageType(torch.int8),
    "ByteStorage": StorageType(torch.uint8),
    "BoolStorage": StorageType(torch.bool),
}


class CheckpointArchive:
    """Entries of a checkpoint, read whole and only as long as the file itself.

    Args:
        path: The file.

    Raises:
        FileMissingError: there is no such file.
        CheckpointError: it is no such archive, damaged, or states sizes that it cannot hold.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        if not os.path.isfile(self.path):
            raise FileMissingError(f"there is no checkpoint '{self.path}'; check the path.")
        self._refuse_other_formats()
        try:
            self._zip = zipfile.ZipFile(self.path)
            entries = self._zip.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
            raise self.damaged(str(error)) from None
        self._entries = {entry.filename: entry for entry in entries}
        self._refuse_wrong_sizes()
        pickles = [name for name in self._entries if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise self.damaged(f"{len(pickles)} entries 'data.pkl' where there has to be one")
        self._prefix = pickles[0].removesuffix("data.pkl")
        if any(name.startswith(f"{self._prefix}code/") for name in self._entries):
            raise CheckpointError(
                f"'{self.path}' is a TorchScript program, not a checkpoint; give the file it was deployed from."
            )
        order = self.read("byteorder") if f"{self._prefix}byteorder" in self._entries else b"little"
        if order.decode("latin1") != sys.byteorder:
            raise CheckpointError(
                f"'{self.path}' was written on a machine of another byte order ({order[:10]!r}); save it again here."
            )
        self._storages: dict[str, Storage] = {}

    def damaged(self, reason: str) -> CheckpointError:
        """The error of a file that is not what it should be."""
        return CheckpointError(f"'{self.path}' is damaged or no torch checkpoint ({reason}); copy it again.")

    def read(self, name: str) -> bytes:
        """Bytes of an entry.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        entry = self._entries.get(self._prefix + name)
        if entry is None:
            raise self.damaged(f"no entry '{name}'")
        try:
            content = self._zip.read(entry)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError, ValueError) as error:
            raise self.damaged(str(error)) from None
        if len(content) != entry.file_size:
            raise self.damaged(f"entry '{name}' is cut short")
        return content

    def storage(self, storage_type: Any, key: Any, size: Any) -> Storage:
        """The storage with the number `key`, of `size` elements.

        Raises:
            CheckpointError: the archive holds no such storage, or one of another size.
        """
        if not (isinstance(storage_type, StorageType) and isinstance(key, str) and type(size) is int and size >= 0):
            raise self.damaged("a tensor names no proper storage")
        if key not in self._storages:
            content = self.read(f"data/{key}")
            dtype = storage_type.dtype
            if len(content) != size * dtype.itemsize:
                raise self.damaged(f"storage {key} holds {len(content)} bytes in place of {size * dtype.itemsize}")
            self._storages[key] = Storage(_from_bytes(content, dtype))
        found = self._storages[key]
        if found.values.dtype != storage_type.dtype or found.values.numel() != size:
            raise self.damaged(f"storage {key} is described in two ways")
        return found

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def _refuse_other_formats(self) -> None:
        with open(self.path, "rb") as file:
            head = file.read(len(_OLD_TORCH_MARK))
        if head == _OLD_TORCH_MARK:
            raise CheckpointError(
                f"'{self.path}' is in the format of torch before 1.6; load and save it again with a current torch."
            )
        if not zipfile.is_zipfile(self.path):
            raise self.damaged("it is no zip archive")

    def _refuse_wrong_sizes(self) -> None:
        """Entries are stored as they are, so that all together they cannot be longer than the file."""
        for entry in self._entries.values():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise self.damaged(f"entry '{entry.filename[:80]}' is compressed, which torch never does")
        stated, real = sum(entry.file_size for entry in self._entries.values()), os.path.getsize(self.path)
        if stated > real:
            raise self.damaged(f"its entries would be {stated} bytes, the file has {real}")


def _from_bytes(content: bytes, dtype: torch.dtype) -> Tensor:
    """A flat tensor of its own memory."""
    if not content:
        return torch.empty(0, dtype=dtype)
    if dtype == torch.bool:  # Other bytes than 0 and 1 are no truth values.
        return torch.frombuffer(bytearray(content), dtype=torch.uint8) != 0
    return torch.frombuffer(bytearray(content), dtype=dtype)
