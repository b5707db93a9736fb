"""The choice between kernels and reference."""

import importlib.util
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator

import pytest
import torch

from mlip_kernels import backends


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("MLIP_KERNELS", raising=False)
    backends._installed.cache_clear()
    yield
    backends._installed.cache_clear()


def without(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))


def test_each_device_has_its_kernels() -> None:
    assert backends.available_backend("cpu") == "cpu"
    assert backends.available_backend(torch.device("cuda", 1)) == "gpu"
    assert backends.available_backend("meta") == "reference"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_kernels_can_be_switched_off(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLIP_KERNELS", "reference")
    assert backends.available_backend(device) == "reference"


def test_an_unknown_wish_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLIP_KERNELS", "none")
    with pytest.raises(ValueError, match="'none': set it to 'reference'"):
        backends.available_backend("cpu")


@pytest.mark.parametrize(("package", "device"), [("numba", "cpu"), ("triton", "cuda")])
def test_a_missing_compiler_is_told_once(package: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without(package, monkeypatch)
    with pytest.warns(RuntimeWarning, match=f"{package} is not installed"):
        assert backends.available_backend(device) == "reference"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert backends.available_backend(device) == "reference"


def test_no_warning_where_kernels_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    without("numba", monkeypatch)
    monkeypatch.setenv("MLIP_KERNELS", "reference")
    assert backends.available_backend("cpu") == "reference"


def test_numba_takes_the_threads_of_torch() -> None:
    import numba

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert backends.match_torch_threads(2**30) == 1
        assert numba.get_num_threads() == 1
        torch.set_num_threads(4096)
        assert backends.match_torch_threads(2**30) == numba.config.NUMBA_NUM_THREADS
        assert backends.match_torch_threads(100) == 1
    finally:
        torch.set_num_threads(before)


def test_the_operations_import_without_their_compilers() -> None:
    """Neither numba nor triton is imported before a kernel is called."""
    modules = "backends, spherical_harmonics, radial_table, factorised_product, factorised_convolution"
    code = f"import sys; from mlip_kernels import {modules}; print({{'numba', 'triton'}} & set(sys.modules))"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120, env=environment
    )
    assert result.stdout.strip() == "set()"
