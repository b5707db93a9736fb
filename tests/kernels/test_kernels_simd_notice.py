"""Who waits at a terminal is told what for; nobody else is."""

import re
import sys
from pathlib import Path

import pytest

from mlip_kernels.simd.notice import notice_of_compiling


@pytest.mark.parametrize(("terminal", "kept"), [(True, False), (True, True), (False, False)])
def test_a_first_compilation_is_told_at_a_terminal(
    terminal: bool, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "program.py"
    (tmp_path / "__pycache__").mkdir()
    if kept:
        (tmp_path / "__pycache__" / "program.run-11.py311.1.nbc").write_text("")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with notice_of_compiling("Energies of a potential.", source):
        during = capsys.readouterr().err
    after = capsys.readouterr().err
    if terminal and not kept:
        assert during == "Compiling for this CPU, once: energies of a potential … "
        assert re.fullmatch(r"\d+\.\d s\n", after)
    else:
        assert during + after == ""


def test_an_interrupted_compilation_ends_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(KeyboardInterrupt), notice_of_compiling("One.", tmp_path / "one.py"):
        raise KeyboardInterrupt
    assert capsys.readouterr().err.endswith(" s\n")
