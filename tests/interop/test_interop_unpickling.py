"""Checkpoints read without Python's unpickler: what is in honest ones, and that hostile ones only raise."""

import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mlip.errors import CheckpointError, FileMissingError
from mlip.interop.records import Global, Record
from mlip.interop.unpickling import read_checkpoint


def write_archive(path: Path, pickled: bytes, entries: dict[str, bytes] | None = None) -> Path:
    """A torch checkpoint with this pickle and these further entries."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/byteorder", sys.byteorder)
        for name, content in (entries or {}).items():
            file.writestr(f"archive/{name}", content)
    return path


def saved(path: Path, value: Any, **options: Any) -> Path:
    """A file that torch wrote."""
    torch.save(value, path, **options)
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_values_come_back_as_they_were(tmp_path: Path, protocol: int) -> None:
    shared = torch.arange(12.0).view(3, 4)
    value = {
        "numbers": [1, -2, 3.5, True, None, 1 << 70, b"bytes", (1, (2, 3)), slice(1, 2), {4, 5}, frozenset({6})],
        "tensors": OrderedDict(a=shared, b=shared.T[1:], c=torch.zeros(0, 3), d=torch.tensor(2.0)),
        "kinds": [torch.ones(3).to(dtype) for dtype in (torch.float64, torch.bfloat16, torch.int64, torch.bool)],
        "others": [torch.float64, torch.Size([1, 2]), torch.device("cuda"), defaultdict(list, x=[1])],
        "arrays": [np.arange(6.0).reshape(2, 3), np.float32(1.5), np.array([1, 2], dtype=np.int32)],
    }
    read = read_checkpoint(saved(tmp_path / "file.pth", value, pickle_protocol=protocol))
    assert read["numbers"] == value["numbers"]
    assert read["others"] == value["others"]
    for name, tensor in value["tensors"].items():
        torch.testing.assert_close(read["tensors"][name], tensor, rtol=0.0, atol=0.0)
    for ours, theirs in zip(read["kinds"], value["kinds"], strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(read["arrays"], value["arrays"], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_modules_come_back_as_records_with_their_tensors(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    record = read_checkpoint(saved(tmp_path / "file.model", module))
    assert isinstance(record, Record)
    assert record.kind == Global("torch.nn.modules.container", "Sequential")
    assert [child.class_name for child in record.children()] == ["Linear", "BatchNorm1d"]
    assert record["0"]["in_features"] == 2
    assert "0" in record
    assert record["1"].get("missing", 7) == 7
    with pytest.raises(CheckpointError, match="the BatchNorm1d in the checkpoint has no 'missing'"):
        record["1"]["missing"]
    state = module.state_dict()
    assert record.state_dict().keys() == state.keys()
    for name, tensor in record.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=0.0, atol=0.0)
        assert not tensor.requires_grad


def test_functions_are_only_named(tmp_path: Path) -> None:
    found = read_checkpoint(saved(tmp_path / "file.pth", [torch.nn.functional.silu]))
    assert found == [Global("torch.nn.functional", "silu")]


class Calls:
    """Pickles as the call of a function with arguments, as an attacker would have it."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def touch(path: Path) -> str:
    return f"touch {path}"


ATTACKS: dict[str, Callable[[Path], Any]] = {
    "posix.system": lambda mark: Calls(os.system, touch(mark)),
    "builtins.eval": lambda mark: Calls(eval, f"open({str(mark)!r}, 'w')"),
    "builtins.exec": lambda mark: Calls(exec, f"open({str(mark)!r}, 'w')"),
    "builtins.getattr": lambda mark: Calls(getattr, Calls(__import__, "os"), "system"),
    "builtins.__import__": lambda mark: Calls(__import__, "os"),
    "io.open": lambda mark: Calls(open, str(mark), "w"),
    "subprocess.Popen": lambda mark: Calls(subprocess.Popen, ["touch", str(mark)]),
    "torch.load": lambda mark: Calls(torch.load, str(mark)),
    "torch.hub.load": lambda mark: Calls(torch.hub.load, str(mark), "model"),
    "torch.serialization.load": lambda mark: Calls(torch.serialization.load, str(mark)),
    "pickle.loads": lambda mark: Calls(pickle._loads, b"."),
    "operator.attrgetter": lambda mark: Calls(__import__("operator").attrgetter, "system"),
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", ATTACKS)
def test_calls_that_a_file_hides_are_not_made(tmp_path: Path, name: str, nested: bool) -> None:
    mark = tmp_path / "mark"
    attack = ATTACKS[name](mark)
    value = {"model": [torch.zeros(2), (1, {"deep": attack})]} if nested else attack
    path = saved(tmp_path / "hostile.model", value)
    with pytest.raises(CheckpointError, match="which is not allowed"):
        read_checkpoint(path)
    assert not mark.exists()


def test_the_attack_is_real(tmp_path: Path) -> None:
    """The same file runs its command where it is unpickled."""
    mark = tmp_path / "mark"
    path = saved(tmp_path / "hostile.model", ATTACKS["posix.system"](mark))
    torch.load(path, weights_only=False)
    assert mark.exists()


def instruction(code: str, *arguments: bytes) -> bytes:
    """One pickle instruction."""
    return code.encode("latin1") + b"".join(arguments)


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


HEAD, STOP = b"\x80\x02", b"."
COMMAND = text("touch MARK")
TENSOR = name("torch._utils", "_rebuild_tensor_v2")


def tensor_call(storage: bytes, offset: int, size: int, stride: int) -> bytes:
    """A pickle of one tensor with one axis."""
    numbers = [b"J" + each.to_bytes(4, "little", signed=True) for each in (offset, size, stride)]
    arguments = b"(" + storage + numbers[0] + numbers[1] + b"\x85" + numbers[2] + b"\x85" + b"\x89" + b"Nt"
    return HEAD + TENSOR + arguments + b"R" + STOP


def storage_of(elements: int, kind: str = "FloatStorage", key: str = "0") -> bytes:
    size = b"J" + elements.to_bytes(4, "little", signed=True)
    return b"(" + text("storage") + name("torch", kind) + text(key) + text("cpu") + size + b"tQ"


PROGRAMS = {
    "OBJ": b"(" + name("os", "system") + COMMAND + b"o",
    "INST": b"(" + COMMAND + b"ios\nsystem\n",
    "STACK_GLOBAL": text("os") + text("system") + b"\x93" + COMMAND + b"\x85R",
    "NEWOBJ": name("os", "system") + COMMAND + b"\x85\x81",
    "extension": b"\x82\x01" + COMMAND + b"\x85R",
    "text persistent id": b"PMARK\n",
    "dotted name": name("mace", "modules.os.system") + COMMAND + b"\x85R",
    "name like a package": name("maceevil", "run") + COMMAND + b"\x85R",
    "name like torch.nn": name("torch.nnx", "run") + COMMAND + b"\x85R",
    "call of a tensor": storage_of(1) + COMMAND + b"\x85R",
    "call of a record": name("mace.modules", "X") + b")R" + COMMAND + b"\x85R",
    "state of a name": name("mace.modules", "X") + b"}" + text("__setstate__") + COMMAND + b"sb",
    "state of a maker": TENSOR + b"}" + text("__call__") + COMMAND + b"sb",
    "state of a list": b"]}b",
    "wrong arguments": TENSOR + b")R",
    "tuple as a key": b"}))s",
    "list as a key": b"}])s",
    "items of a number": b"K\x01K\x02a",
    "empty stack": b"0",
    "missing mark": b"t",
    "missing memo": b"h\x07",
    "value for a mark": b"(R",
    "half a pair": b"}(K\x01u",
    "old text": b"S'x'\n",
    "bytes of a number": name("builtins", "bytes") + b"J\xff\xff\xff\x7f\x85R",
    "set of lists": name("builtins", "set") + b"]" + b"]a\x85R",
    "module of text": b"K\x01K\x02\x93",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_by_hand_only_raise(tmp_path: Path, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_archive(tmp_path / "hostile.model", HEAD + PROGRAMS[program] + STOP, {"data/0": bytes(4)})
    if program == "dotted name":  # A record, as any name of mace: it says what it is and runs nothing.
        assert read_checkpoint(path).kind == Global("mace", "modules.os.system")
    else:
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
    assert os.listdir(tmp_path) == ["hostile.model"]


def test_state_of_a_record_stays_data(tmp_path: Path) -> None:
    state = b"}" + text("__class__") + name("torch.nn.functional", "silu") + b"s" + b"b"
    path = write_archive(tmp_path / "file.model", HEAD + name("mace.modules", "X") + b")\x81" + state + STOP)
    record = read_checkpoint(path)
    assert type(record) is Record
    assert record["__class__"] == Global("torch.nn.functional", "silu")


def test_partial_functions_and_reconstructed_objects_stay_records(tmp_path: Path) -> None:
    partial = name("functools", "partial") + name("torch.nn.functional", "silu") + b"\x85R"
    path = write_archive(tmp_path / "partial.model", HEAD + partial + STOP)
    assert read_checkpoint(path).kind == Global("functools", "partial")
    made = name("copy_reg", "_reconstructor") + name("mace.tools", "X") + name("builtins", "set") + b"N\x87R"
    path = write_archive(tmp_path / "made.model", HEAD + made + STOP)
    assert read_checkpoint(path).kind == Global("mace.tools", "X")
    hostile = name("copy_reg", "_reconstructor") + name("os", "system") + b"NN\x87R"
    with pytest.raises(CheckpointError, match=r"'os\.system'"):
        read_checkpoint(write_archive(tmp_path / "hostile.model", HEAD + hostile + STOP))


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, 5, 1), (4, 1, 1), (0, 2, 4), (-1, 1, 1), (0, -1, 1), (3, 4, -1), (0, 2**31 - 1, 0), (2**31 - 1, 1, 1)],
)
def test_views_beyond_their_storage_raise(tmp_path: Path, offset: int, size: int, stride: int) -> None:
    pickled = tensor_call(storage_of(4), offset, size, stride)
    with pytest.raises(CheckpointError, match="wrong arguments"):
        read_checkpoint(write_archive(tmp_path / "file.pth", pickled, {"data/0": bytes(16)}))


@pytest.mark.parametrize(
    ("storage", "reason"),
    [
        (storage_of(5), "holds 16 bytes in place of 20"),
        (storage_of(2**31 - 1), "holds 16 bytes"),
        (storage_of(-4), "names no proper storage"),
        (storage_of(4, key="1"), "no entry 'data/1'"),
        (storage_of(4, key="../../data.pkl"), "no entry"),
        (storage_of(4, "QInt8Storage"), "which is not allowed"),
        (b"(" + text("storage") + text("x") + text("0") + text("cpu") + b"K\x04tQ", "no proper storage"),
        (b"K\x01Q", "no storage"),
    ],
)
def test_storages_that_the_file_does_not_hold_raise(tmp_path: Path, storage: bytes, reason: str) -> None:
    path = write_archive(tmp_path / "file.pth", tensor_call(storage, 0, 4, 1), {"data/0": bytes(16)})
    with pytest.raises(CheckpointError, match=reason):
        read_checkpoint(path)


@pytest.mark.parametrize("shape", [b"J\xff\xff\xff\x7f\x85", b"J\xff\xff\xff\xff\x85", text("x") + b"\x85"])
def test_arrays_of_impossible_shapes_raise(tmp_path: Path, shape: bytes) -> None:
    array = name("numpy.core.multiarray", "_reconstruct") + b")R"
    dtype = name("numpy", "dtype") + text("f8") + b"\x85R"
    content = name("_codecs", "encode") + text("12345678") + text("latin1") + b"\x86R"
    pickled = HEAD + array + b"(K\x01" + shape + dtype + b"\x89" + content + b"tb" + STOP
    with pytest.raises(CheckpointError, match="array in the checkpoint is damaged"):
        read_checkpoint(write_archive(tmp_path / "file.pth", pickled))


def test_arrays_of_objects_raise(tmp_path: Path) -> None:
    path = saved(tmp_path / "file.pth", np.array([None, {}], dtype=object))
    with pytest.raises(CheckpointError, match="type 'O8', which is not supported"):
        read_checkpoint(path)


def test_deeply_nested_lists_are_no_crash(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "file.pth", HEAD + b"]" * 100_000 + b"a" * 99_999 + STOP)
    assert isinstance(read_checkpoint(path), list)


def test_modules_inside_themselves_are_no_endless_loop(tmp_path: Path) -> None:
    inner = b"}" + text("_modules") + b"}" + text("me") + b"h\x00" + b"ss" + b"b"
    path = write_archive(tmp_path / "file.pth", HEAD + name("mace.modules", "X") + b")\x81q\x00" + inner + STOP)
    with pytest.raises(CheckpointError, match="nested without end"):
        read_checkpoint(path).state_dict()


def test_every_truncation_of_a_file_raises(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.pth", {"a": torch.zeros(3)}).read_bytes()
    path = tmp_path / "cut.pth"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="damaged or no torch checkpoint"):
            read_checkpoint(path)


def test_damaged_bytes_raise_or_change_only_values(tmp_path: Path) -> None:
    """Any single byte of the pickle changed: never anything but a value or this package's error."""
    buffer = io.BytesIO()
    pickle.dump({"a": [1, 2.5, ("x", b"y")], "b": {3}}, buffer, protocol=2)
    pickled = buffer.getvalue()
    random = np.random.default_rng(0)
    outcomes = set()
    for _ in range(300):
        place, byte = int(random.integers(len(pickled))), int(random.integers(256))
        changed = pickled[:place] + bytes([byte]) + pickled[place + 1 :]
        try:
            read_checkpoint(write_archive(tmp_path / "file.pth", changed))
            outcomes.add("read")
        except CheckpointError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_archives_that_lie_about_sizes_raise(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", HEAD + b"N.")
        file.writestr("archive/data/0", bytes(10_000_000))
    with pytest.raises(CheckpointError, match="is compressed, which torch never does"):
        read_checkpoint(path)
    whole = write_archive(path, tensor_call(storage_of(16), 0, 4, 1), {"data/0": bytes(64)}).read_bytes()
    assert read_checkpoint(path).shape == (4,)
    size = (64).to_bytes(4, "little")
    for wrong in (10**9, 65):
        path.write_bytes(whole.replace(size + size, wrong.to_bytes(4, "little") * 2))
        with pytest.raises(CheckpointError):
            read_checkpoint(path)


def test_entries_that_share_their_bytes_raise(tmp_path: Path) -> None:
    """Many names for one stretch of the file would be read to many times its length."""
    path = write_archive(tmp_path / "file.pth", HEAD + b"N.", {f"data/{i}": bytes(4000) for i in range(2)})
    content = path.read_bytes()
    directory = content.index(b"PK\x01\x02")
    entry = content.index(b"PK\x01\x02", content.index(b"data/0", directory))
    one = content[entry : content.index(b"PK\x05\x06")]
    copies = b"".join(one.replace(b"data/1", f"data/{i}".encode()) for i in range(2, 10))
    end = bytearray(content[content.index(b"PK\x05\x06") :])
    total = 4 + 8
    end[8:12] = total.to_bytes(2, "little") * 2
    end[12:16] = (len(content[directory : content.index(b"PK\x05\x06")]) + len(copies)).to_bytes(4, "little")
    path.write_bytes(content[: content.index(b"PK\x05\x06")] + copies + bytes(end))
    assert len(zipfile.ZipFile(path).infolist()) == total
    with pytest.raises(CheckpointError, match="its entries would be 40010 bytes"):
        read_checkpoint(path)


def test_files_of_other_formats_raise(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    with pytest.raises(FileMissingError, match="there is no checkpoint"):
        read_checkpoint(path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="it is no zip archive"):
        read_checkpoint(path)
    torch.save({"a": 1}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"format of torch before 1\.6"):
        read_checkpoint(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/other", b"")
    with pytest.raises(CheckpointError, match=r"0 entries 'data\.pkl'"):
        read_checkpoint(path)
    write_archive(path, HEAD + b"N.", {"code/__torch__.py": b""})
    with pytest.raises(CheckpointError, match="is a TorchScript program"):
        read_checkpoint(path)


def test_reading_imports_neither_package(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "file.model", HEAD + name("sevenn.nn", "X") + b")\x81" + STOP)
    before = set(sys.modules)
    assert read_checkpoint(path).kind == Global("sevenn.nn", "X")
    assert not {each for each in set(sys.modules) - before if each.split(".")[0] in ("sevenn", "mace")}
