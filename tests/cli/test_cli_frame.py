"""The frame of the command line: help, version, errors as sentences, progress bars."""

import errno
import subprocess
import sys
import warnings

import pytest

from mlip import __version__
from mlip.cli import main as main_module
from mlip.cli.console import progress


def test_help_lists_the_verbs_and_imports_nothing_heavy():
    code = (
        "import sys\nfrom mlip.cli.main import app\n"
        + "print([m for m in ('torch', 'ase', 'numpy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_module_is_the_command():
    result = subprocess.run([sys.executable, "-m", "mlip", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"mlip {__version__}\n"


def test_help_and_usage_errors(run):
    help_text = run("--help")
    assert help_text.exit_code == 0
    for verb in ("data", "train", "eval", "predict", "info", "convert", "bench", "md", "relax", "quickstart"):
        assert verb in help_text.stdout
    assert run("predct").exit_code == 2
    assert "predict" in run("predct").stderr


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "Interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "model.mlip"), 2, "Error: 'model.mlip': No space left"),
        (PermissionError(errno.EACCES, "Permission denied", "model.mlip"), 2, "Error: 'model.mlip': Permission denied"),
    ],
)
def test_errors_of_the_system_are_sentences(run, monkeypatch, model_file, error, code, sentence):
    def fail(path):
        raise error

    monkeypatch.setattr("mlip.models.read_header", fail)
    result = run("info", model_file)
    assert result.exit_code == code
    assert result.stderr.startswith(sentence)
    assert result.stderr.count("\n") == 1


def test_defects_are_not_disguised(run, monkeypatch, model_file):
    monkeypatch.setattr("mlip.models.read_header", lambda path: 1 / 0)
    assert isinstance(run("info", model_file).exception, ZeroDivisionError)


@pytest.mark.parametrize("arguments", [("--debug", "info", "absent.mlip"), ("info", "absent.mlip", "--debug")])
def test_debug_shows_the_traceback_wherever_it_stands(run, arguments):
    assert isinstance(run(*arguments).exception, FileNotFoundError)


def test_progress_is_silent_where_there_is_no_terminal(capsys):
    with progress("Counting", 3) as bar:
        bar.advance()
        bar.note("half way")
    assert capsys.readouterr() == ("", "")


def test_progress_shows_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with progress("Counting", 3) as bar:
        bar.advance(2)
        bar.note("300 K")
    shown = capsys.readouterr()
    assert shown.out == ""
    for text in ("Counting", "2/3", "300 K"):
        assert text in shown.err


def test_warnings_are_one_line(capsys, monkeypatch):
    monkeypatch.setattr(main_module, "app", lambda: warnings.warn("the cell is charged", UserWarning, stacklevel=1))
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        main_module.main()
    assert capsys.readouterr().err == "Warning: the cell is charged\n"
