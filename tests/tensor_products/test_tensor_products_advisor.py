"""The choice of the fastest backend: what is measured, and that it is remembered."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from e3nn.o3 import Irrep
from torch import Tensor

from mlip.errors import ConfigError
from mlip.tensor_products import Backend, ProductSpec, TensorProduct, advisor, backend
from mlip.tensor_products.advisor import fastest_backend, measure_backends
from mlip.tensor_products.clebsch_gordan import ClebschGordan
from mlip.tensor_products.couplings import Coupling
from mlip.tensor_products.spec import WeightStructure

SMALL = {"channels": 2, "channels_in2": 1, "batch": 5}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where choices are kept during a test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path / "mlip" / "advisor"
    advisor._unkept.clear()


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> list[ProductSpec]:
    """The specs that were measured; the grid was always the fastest."""
    measured = []

    def measure(spec: ProductSpec, *_: object) -> dict[str, float]:
        measured.append(spec)
        return {"clebsch_gordan": 2.0, "spherical_grid": 1.0, "gaunt_fourier": 3.0}

    monkeypatch.setattr(advisor, "measure_backends", measure)
    return measured


def spec_of(coupling: Coupling = "gaunt", weights: WeightStructure = "none") -> ProductSpec:
    irreps = (Irrep("0e"), Irrep("1o"))
    return ProductSpec(irreps, irreps, irreps, coupling, weights)


class Slow(ClebschGordan):
    """Takes its time."""

    calls = 0

    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        type(self).calls += 1
        time.sleep(0.05)
        return super().bilinear(x, y)

    def forward(self, x: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        return Backend.forward(self, x, y, weight)


class Inexact(ClebschGordan):
    """Approximates."""

    @property
    def exact(self) -> bool:
        return False


class Refusing(ClebschGordan):
    """Can do nothing after all."""

    def __init__(self, spec: ProductSpec) -> None:
        raise ConfigError("no.")


@pytest.fixture
def more_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Slow", "Inexact", "Refusing"):
        monkeypatch.setitem(backend._OWN, name.lower(), f"{__name__}:{name}")
    monkeypatch.setitem(backend._OWN, "missing", "no_such_module:Backend")


@pytest.mark.usefixtures("more_backends")
@pytest.mark.parametrize("weights", ["none", "shared", "per_degree"])
def test_exact_backends_are_measured(weights: WeightStructure) -> None:
    state = torch.get_rng_state()
    seconds = measure_backends(spec_of(weights=weights), **SMALL)
    assert {"clebsch_gordan", "spherical_grid", "gaunt_fourier", "slow"} <= set(seconds)
    assert not {"matrix", "inexact", "refusing", "missing"} & set(seconds)
    assert all(0 < each < 60 for each in seconds.values())
    assert max(seconds, key=lambda name: seconds[name]) == "slow"
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.usefixtures("more_backends")
def test_what_is_hopeless_is_not_timed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slow, "calls", 0)
    assert measure_backends(spec_of(), **SMALL)["slow"] >= 0.05
    assert Slow.calls == advisor._WARM_UP_CALLS


def test_the_fastest_is_chosen_and_remembered(folder: Path, measurements: list[ProductSpec]) -> None:
    assert fastest_backend(spec_of(), **SMALL) == "spherical_grid"
    assert fastest_backend(spec_of(), **SMALL) == "spherical_grid"
    assert measurements == [spec_of()]
    (file,) = folder.iterdir()
    kept = json.loads(file.read_text())
    assert kept["fastest"] == "spherical_grid"
    assert kept["seconds"]["gaunt_fourier"] == 3.0


@pytest.mark.usefixtures("measurements")
def test_every_circumstance_has_its_own_choice(folder: Path) -> None:
    threads = torch.get_num_threads()
    fastest_backend(spec_of(), **SMALL)
    fastest_backend(spec_of(), **SMALL | {"channels": 3})
    fastest_backend(spec_of(), **SMALL | {"channels_in2": 2})
    fastest_backend(spec_of(), **SMALL | {"batch": 6})
    fastest_backend(spec_of(), **SMALL, dtype=torch.float64)
    fastest_backend(spec_of(weights="shared"), **SMALL)
    try:
        torch.set_num_threads(threads + 1)
        fastest_backend(spec_of(), **SMALL)
    finally:
        torch.set_num_threads(threads)
    assert len(list(folder.iterdir())) == 7


@pytest.mark.parametrize("damage", [b"", b"\xff", b"{", b"[]", b"{}", b'{"key": {}, "fastest": "matrix"}'])
def test_a_damaged_file_is_made_anew(folder: Path, measurements: list[ProductSpec], damage: bytes) -> None:
    fastest_backend(spec_of(), **SMALL)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage)
    assert fastest_backend(spec_of(), **SMALL) == "spherical_grid"
    assert len(measurements) == 2
    assert file.read_bytes() == whole


def test_a_backend_that_is_no_longer_able_is_not_chosen(folder: Path, measurements: list[ProductSpec]) -> None:
    fastest_backend(spec_of(), **SMALL)
    (file,) = folder.iterdir()
    file.write_text(file.read_text().replace('"fastest": "spherical_grid"', '"fastest": "gone"'))
    assert fastest_backend(spec_of(), **SMALL) == "spherical_grid"
    assert len(measurements) == 2


def test_a_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measurements: list[ProductSpec]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert fastest_backend(spec_of(), **SMALL) == "spherical_grid"
    assert fastest_backend(spec_of(), **SMALL) == "spherical_grid"
    assert len(measurements) == 1


def test_where_there_is_no_choice_nothing_is_measured(folder: Path, measurements: list[ProductSpec]) -> None:
    assert fastest_backend(spec_of("clebsch_gordan", "per_path"), **SMALL) == "clebsch_gordan"
    assert not measurements
    assert not folder.exists()


def test_none_that_is_exact_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advisor, "measure_backends", lambda *_: {})
    with pytest.raises(ConfigError, match="no backend computes the coupling 'gaunt' with 'none' weights exactly"):
        fastest_backend(spec_of(), **SMALL)


def test_products_take_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advisor, "_WARM_UP_CALLS", 1)
    monkeypatch.setattr(advisor, "_ROUNDS", 1)
    irreps = "2x0e+2x1o"
    with torch.inference_mode():
        chosen = TensorProduct(irreps, "0e+1o", irreps, backend="auto", coupling="gaunt", weights="per_degree")
    assert chosen.exact
    named = TensorProduct(irreps, "0e+1o", irreps, backend=chosen.backend, coupling="gaunt", weights="per_degree")
    generator = torch.Generator().manual_seed(0)
    operands = [torch.randn(3, width, generator=generator) for width in (8, 4, chosen.weight_numel)]
    torch.testing.assert_close(chosen(*operands), named(*operands), rtol=0, atol=0)
