"""The model file: nothing is lost, nothing is executed, and whatever is wrong with it is said."""

import errno
import json
import math
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_cases import ARCHITECTURES, batch, potential, random_structure
from safetensors import safe_open
from safetensors.torch import save_file

from mlip._version import __version__
from mlip.errors import ConfigError, FileMissingError, ModelFileError
from mlip.models import Potential, build_model, load, model_file, read_header, save

REFERENCES = {"H": -13.6, "C": -1034.7, "O": -2043.2, "Si": -9000.123456789}
TINY: dict[str, Any] = {"architecture": "nequip", "elements": ["H"], "hidden_irreps": "1x0e", "l_max": 0, "layers": 1}
TINY |= {"radial_hidden": [], "radial_functions": 2}


def same_predictions(first: Potential, second: Potential) -> bool:
    graph = batch(random_structure(1, 5, True), random_structure(2, 3), cutoff=first.cutoff)
    return all(
        torch.equal(a, b) for a, b in zip(first(graph, stress=True)[:4], second(graph, stress=True)[:4], strict=True)
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.mlip"


@pytest.fixture
def content(path: Path) -> bytes:
    """A whole file of a tiny model."""
    save(build_model(TINY), path)
    return path.read_bytes()


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], Any]) -> None:
    """Change the header and the tensors of a file with safetensors' own functions."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["mlip"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    replacement = change(header, tensors)
    text = replacement if isinstance(replacement, str) else json.dumps(header if replacement is None else replacement)
    save_file(tensors, path, metadata={"mlip": text})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_round_trip_bit_for_bit(architecture: str, dtype: str, path: Path) -> None:
    changes = {"zbl": True, "scale": {"H": 0.1, "C": 0.3, "O": 0.7, "Si": 1 / 3}, "shift": -0.1}
    model = potential(architecture, dtype, reference_energies=REFERENCES, **changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1e-3 * torch.rand_like(parameter)
    save(model, path)
    loaded = load(path)
    assert not loaded.training
    assert loaded.dtype == model.dtype
    assert loaded.config == model.config
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert state[name].dtype == tensor.dtype
        assert torch.equal(state[name], tensor)
    assert same_predictions(model, loaded)
    save(loaded, path.with_name("again.mlip"))
    assert path.with_name("again.mlip").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_load_casts(architecture: str, path: Path) -> None:
    model = potential(architecture, "float64", reference_energies=REFERENCES)
    save(model, path)
    single = load(path, dtype="float32")
    assert single.dtype == torch.float32
    assert same_predictions(single, model.float())
    assert torch.equal(single.reference_energies.values, torch.tensor([*REFERENCES.values()], dtype=torch.float64))
    save(single, path)
    assert load(path).dtype == torch.float32
    assert same_predictions(load(path, dtype="float64", device="cpu"), model.double())
    with pytest.raises(ConfigError, match="float16"):
        load(path, dtype="float16")


def test_training_mode_and_the_device_do_not_enter_the_file(path: Path) -> None:
    model = build_model(TINY)
    save(model.eval(), path)
    content = path.read_bytes()
    save(model.train(), path)
    assert path.read_bytes() == content
    assert model.training


def test_header_says_what_the_model_is(path: Path) -> None:
    provenance = {"data": "wasser-µ.xyz", "epochs": 12, "errors": {"forces": [1.5, None]}}
    model = potential("mace", reference_energies=REFERENCES)
    save(model, path, provenance)
    header = read_header(path)
    assert header["format_version"] == 1
    assert header["package_version"] == __version__
    assert header["elements"] == ["H", "C", "O", "Si"]
    assert header["reference_energies"] == REFERENCES
    assert header["config"] == model.config.model_dump(mode="json")
    assert header["dtype"] == "float64"
    assert header["units"]["energy"] == "eV"
    assert header["provenance"] == provenance
    loaded = load(path)
    assert loaded.provenance == provenance
    # It stays with the model until another one is given.
    save(loaded, path)
    assert read_header(path)["provenance"] == provenance
    save(loaded, path, {})
    assert load(path).provenance == {}


@pytest.mark.parametrize("where", range(20))
def test_truncated_files(where: int, path: Path, content: bytes) -> None:
    """Within the length field, the header, and the tensors."""
    header_end = 8 + struct.unpack("<Q", content[:8])[0]
    positions = [0, 1, 7, 8, 9, *(8 + (header_end - 8) * i // 8 for i in range(1, 9))]
    positions += [header_end + (len(content) - header_end) * i // 7 for i in range(1, 7)] + [len(content) - 1]
    path.write_bytes(content[: positions[where]])
    with pytest.raises(ModelFileError, match=r"model\.mlip.* again"):
        load(path)


@given(data=st.data())
def test_damaged_files(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Changed bytes are noticed, or are in a number and change nothing but that."""
    path = tmp_path_factory.mktemp("damaged") / "model.mlip"
    save(build_model(TINY), path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        assert isinstance(load(path), Potential)
    except ModelFileError as error:
        assert "\n" not in str(error)  # noqa: PT017 (most damage is noticed, some is in a number)


@pytest.mark.parametrize("size", [0, 3, 8, 100, 5000])
def test_garbage(size: int, path: Path) -> None:
    generator = torch.Generator().manual_seed(size)
    path.write_bytes(bytes(torch.randint(0, 256, (size,), generator=generator, dtype=torch.uint8).tolist()))
    for read in (load, read_header):
        with pytest.raises(ModelFileError, match=r"model\.mlip"):
            read(path)


def test_safetensors_of_another_kind(path: Path) -> None:
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": torch.ones(3)}, path, metadata=metadata)
        with pytest.raises(ModelFileError, match="no model of this package"):
            load(path)


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_other_format_versions(version: Any, path: Path, content: bytes) -> None:
    rewritten(path, lambda header, _: header.update(format_version=version, package_version="9.9"))
    with pytest.raises(ModelFileError, match=r"format.*reads format 1.*9\.9"):
        load(path)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "3", '"text"', "{}", '{"format_version": 1}', "[" * 100_000])
def test_damaged_headers(text: str, path: Path, content: bytes) -> None:
    rewritten(path, lambda header, tensors: text)
    with pytest.raises(ModelFileError, match=r"model\.mlip"):
        load(path)


@pytest.mark.parametrize("value", [None, 5, -1, 0.5, "x", [], {}, [1], {"a": 1}, True, math.inf])
@pytest.mark.parametrize("key", ["config", "dtype", "provenance", "elements", "reference_energies", "units"])
def test_wrong_values_in_headers(key: str, value: Any, path: Path, content: bytes) -> None:
    rewritten(path, lambda header, _: header.update({key: value}))
    if key in ("config", "dtype"):
        with pytest.raises(ModelFileError, match=r"model\.mlip"):
            load(path)
    else:
        # What is there for readers decides nothing.
        assert same_state(load(path), build_model(TINY))


def same_state(first: Potential, second: Potential) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("value", [None, -1, 10**30, "x", [], {}, 0.5, math.inf, math.nan])
def test_wrong_values_in_the_configuration(value: Any, path: Path, content: bytes) -> None:
    for key in build_model(TINY).config.model_dump():
        path.write_bytes(content)
        rewritten(path, lambda header, _, key=key: header["config"].update({key: value}))
        try:
            assert isinstance(load(path), Potential)
        except ModelFileError as error:
            assert "\n" not in str(error)  # noqa: PT017 (some values are right for some keys)


def test_missing_extra_and_misshapen_tensors(path: Path, content: bytes) -> None:
    name = "network.embedding"
    changes: list[Callable[[dict[str, torch.Tensor]], Any]] = [
        lambda tensors: tensors.pop(name),
        lambda tensors: tensors.update({"network.more": torch.ones(2)}),
        lambda tensors: tensors.update({name: torch.ones(3, 4)}),
    ]
    for change in changes:
        path.write_bytes(content)
        rewritten(path, lambda _, tensors, change=change: change(tensors) and None)
        with pytest.raises(ModelFileError, match=r"model\.mlip.*whole model") as caught:
            load(path)
        assert "\n" not in str(caught.value)


class _Hostile:
    """Unpickling this creates a file."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trap),)


@pytest.mark.parametrize("write", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))])
def test_pickles_are_refused_and_not_executed(write: Callable[[Any, Path], Any], path: Path) -> None:
    trap = path.with_name("trap")
    write({"model": _Hostile(trap), "weights": torch.ones(100)}, path)
    for read in (load, read_header):
        with pytest.raises(ModelFileError, match=r"model\.mlip"):
            read(path)
    assert not trap.exists()


def test_missing_files_and_folders(path: Path) -> None:
    for missing in (path, path.parent, path / "below"):
        for read in (load, read_header):
            with pytest.raises(FileMissingError, match="no model file"):
                read(missing)


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["replace", "fsync", "open"])
def test_a_failed_write_leaves_the_old_file_whole(
    step: str, path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    if step == "open":
        monkeypatch.setattr(Path, "open", full_disk)
    else:
        monkeypatch.setattr(model_file.os, step, full_disk)
    with pytest.raises(OSError, match="No space left"):
        save(build_model(TINY | {"seed": 9}), path)
    monkeypatch.undo()
    assert path.read_bytes() == content
    assert [each.name for each in path.parent.iterdir()] == ["model.mlip"]
    # The next attempt works, also over what a killed process left behind.
    path.with_name("model.mlip.partial").write_bytes(b"half a model")
    save(build_model(TINY | {"seed": 9}), path)
    assert load(path).config.seed == 9
    assert [each.name for each in path.parent.iterdir()] == ["model.mlip"]


def test_a_disk_that_fills_up_during_the_write(path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only part of the bytes arrive, as on a full disk."""
    whole_open = Path.open

    def narrow_open(self: Path, *args: Any, **kwargs: Any) -> Any:
        file = whole_open(self, *args, **kwargs)
        if "w" in (args or ("r",))[0]:
            whole_write = file.write

            class Narrow:
                def __enter__(self) -> "Narrow":
                    return self

                def __exit__(self, *_: Any) -> None:
                    file.close()

                def write(self, data: bytes) -> None:
                    whole_write(data[: len(data) // 2])
                    full_disk()

                def __getattr__(self, name: str) -> Any:
                    return getattr(file, name)

            return Narrow()
        return file

    monkeypatch.setattr(Path, "open", narrow_open)
    with pytest.raises(OSError, match="No space left"):
        save(build_model(TINY | {"seed": 9}), path)
    monkeypatch.undo()
    assert path.read_bytes() == content
    assert [each.name for each in path.parent.iterdir()] == ["model.mlip"]


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        save(build_model(TINY), tmp_path / "nowhere" / "model.mlip")
    assert not list(tmp_path.iterdir())


def test_paths_may_be_text(tmp_path: Path) -> None:
    name = str(tmp_path / "a model with ünicode.mlip")
    save(build_model(TINY), name)
    assert load(name).elements == ["H"]
