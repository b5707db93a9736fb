"""Files of Chebyshev-Tucker fields: the same bits back, and a clear error for whatever is not one."""

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mlip.electrostatics.format import ChebyshevTucker, storage
from mlip.errors import DataError, FileMissingError


@pytest.fixture(scope="module")
def field() -> ChebyshevTucker:
    return ChebyshevTucker.from_function(
        lambda points: torch.exp(-points.square().sum(dim=1)) + points[:, 2], [[-1, -2, 0], [2, 1, 1.5]]
    )


@pytest.fixture
def path(field: ChebyshevTucker, tmp_path: Path) -> Path:
    field.save(tmp_path / "field.h5")
    return tmp_path / "field.h5"


def test_a_field_is_read_back_bit_for_bit(field: ChebyshevTucker, path: Path) -> None:
    loaded = ChebyshevTucker.load(path)
    assert torch.equal(loaded.box, field.box)
    assert torch.equal(loaded.tensor.core, field.tensor.core)
    for ours, theirs in zip(loaded.tensor.factors, field.tensor.factors, strict=True):
        assert torch.equal(ours, theirs)
    assert loaded.error_estimate == field.error_estimate
    points = torch.tensor([[0.3, -0.2, 1.1]], dtype=torch.float64)
    assert torch.equal(loaded(points), field(points))


def test_saving_leaves_no_other_file_and_replaces_the_old_one_when_whole(
    field: ChebyshevTucker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        (2 * field).save(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    monkeypatch.undo()
    (2 * field).save(path)
    assert list(path.parent.iterdir()) == [path]
    assert torch.equal(ChebyshevTucker.load(path).tensor.core, 2 * field.tensor.core)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    for name in ("none.h5", ""):
        with pytest.raises(FileMissingError, match="no file"):
            ChebyshevTucker.load(tmp_path / name)


@pytest.mark.parametrize("keep", [0, 7, 100, 600, 0.5, 0.9, -1])
def test_truncated_files_are_refused(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(DataError, match="damaged"):
        ChebyshevTucker.load(path)


def test_any_flipped_bit_is_noticed(path: Path) -> None:
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :])
        with pytest.raises(DataError, match=r"damaged|update the package"):
            ChebyshevTucker.load(path)


def test_it_is_an_hdf5_file_to_others(field: ChebyshevTucker, path: Path) -> None:
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["factor_y"][()], field.tensor.factors[1])


def replace(name: str, values: object, **options: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=values, **options)

    return change


def link_elsewhere(file: h5py.File) -> None:
    del file["core"]
    file["core"] = h5py.ExternalLink("/etc/hostname", "core")


def keep_elsewhere(file: h5py.File) -> None:
    del file["core"]
    file.create_dataset("core", shape=(1, 1, 1), dtype="<f8", external=[("/etc/hostname", 0, 8)])


def claim_terabytes(file: h5py.File) -> None:
    del file["core"]
    file.create_dataset("core", shape=(10**4, 10**4, 10**4), dtype="<f8", chunks=(64, 64, 64))


def be_virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=(4,), dtype="<f8")
    layout[:] = h5py.VirtualSource("/etc/hostname", "core", shape=(4,))
    del file["core"]
    file.create_virtual_dataset("core", layout)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.attrs.clear(), "damaged"),
        (lambda file: file.attrs.update(error_estimate=np.nan), "damaged"),
        (lambda file: file.attrs.update(error_estimate=[1.0, 2.0]), "damaged"),
        (lambda file: file.attrs.pop("error_estimate"), "damaged"),
        (lambda file: file.pop("factor_y"), "no array 'factor_y' of its own"),
        (replace("core", np.zeros(3)), "do not fit each other"),
        (replace("core", np.full((1, 1, 1), np.nan)), "NaN"),
        (replace("core", np.zeros((2, 2, 2), dtype=np.float32)), "no array of float64"),
        (replace("core", "text"), "no array of float64"),
        (replace("box", np.array([[1.0, 1, 1], [0, 0, 0]])), "do not fit each other"),
        (replace("box", np.zeros((1000, 3)), compression="gzip"), "not stored in full"),
        (lambda file: (file.pop("core"), file.create_group("core")), "no array of float64"),
        (link_elsewhere, "no array 'core' of its own"),
        (keep_elsewhere, "no array of float64"),
        (claim_terabytes, "not stored in full"),
        (be_virtual, "not stored in full"),
    ],
)
def test_files_of_another_content_are_refused(path: Path, change: Callable[[h5py.File], object], message: str) -> None:
    """Well made files with a right checksum, that hold something else."""
    with h5py.File(path, "r+") as file:
        change(file)
    body = path.read_bytes()[storage.HEADER_BYTES :]
    path.write_bytes(storage.header(body) + body)
    with pytest.raises(DataError, match=message):
        ChebyshevTucker.load(path)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "field.h5"
    path.write_text("core: [1, 2, 3]\n")
    with pytest.raises(DataError, match="no Chebyshev-Tucker field"):
        ChebyshevTucker.load(path)
    with h5py.File(path, "w") as file:
        file["core"] = np.zeros((1, 1, 1))
    with pytest.raises(DataError, match="no Chebyshev-Tucker field"):
        ChebyshevTucker.load(path)


def test_files_of_a_later_format_are_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"version 1", b"version 2", 1))
    with pytest.raises(DataError, match="has format '2', this version reads 1"):
        ChebyshevTucker.load(path)
