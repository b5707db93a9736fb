"""Shared fixtures: one thread a process, a fixed hypothesis profile, and the folder of real reference data."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# Examples are drawn from a fixed seed so that a test run is repeatable; a slow machine is no failure.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real reference data, named by MLIP_DATA; a test that needs it is skipped where it is absent."""
    folder = Path(os.environ.get("MLIP_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}; point MLIP_DATA at it")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fits and measurements are kept in the user's cache folder; tests neither read what is there nor add to it.

    Compiled programs, whose names say what they were made of, are kept from run to run and for all test processes.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        if "MLIP_KERNEL_CACHE" not in os.environ:
            patch.setenv("MLIP_KERNEL_CACHE", str(REPOSITORY / ".pytest_cache" / "kernels"))
        yield


@pytest.fixture
def e3nn_in_double() -> Iterator[None]:
    """e3nn builds its constants in the default dtype, and is good to 1e-7 only unless that is float64."""
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(previous)
