"""What the tests of several importers share."""

import lzma
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the small checkpoints as mace-torch saved them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for path in (Path(__file__).parent / "data").glob("mace_*.model.xz"):
        (folder / path.stem).write_bytes(lzma.decompress(path.read_bytes()))
    return folder
