"""Files in the user's folder for caches."""

from pathlib import Path

import pytest

from mlip.tensor_products.user_cache import cache_folder, keep


def test_the_folder_follows_the_xdg_specification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert cache_folder("subject") == tmp_path / "caches" / "mlip" / "subject"
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_folder("subject") == tmp_path / ".cache" / "mlip" / "subject"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("subject") == tmp_path / ".cache" / "mlip" / "subject"


def test_a_user_without_a_home_has_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", none)
    assert cache_folder("subject") is None


def test_files_are_kept_whole_with_nothing_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    assert keep(path, b"first")
    assert keep(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_written_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert not keep(tmp_path / "file" / "below", b"content")

    def refuse(*_: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr("os.replace", refuse)
    assert not keep(tmp_path / "other", b"content")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
