"""Programs: what is kept on disk, tasks and threads, keys."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mlip_kernels.simd.cache import cache_folder
from mlip_kernels.simd.code import INTEGER, Code, Index, Indices
from mlip_kernels.simd.program import Program

COUNT = 60


def squares(code: Code, given: Indices, task: Index, tasks: Index) -> None:
    """First phase: each task squares its part of the numbers. Arguments count, numbers, squares, sums, turns."""
    share = given.get(0) // tasks
    with code.loop(task * share, (task + 1) * share) as number:
        value = given.reals(1).get(number)
        given.reals(2).set(number, value * value)
    given.indices(4).set(task, given.indices(4).get(task) + 1)


def sums(code: Code, given: Indices, task: Index, tasks: Index) -> None:
    """Second phase: each task adds up the squares that all tasks wrote."""
    total = code.variable(code.number(0.0))
    with code.loop(0, given.get(0)) as number:
        total.add(given.reals(2).get(number))
    given.reals(3).set(task, total.get())


def ones(code: Code, given: Indices, task: Index, tasks: Index) -> None:
    """Another program: writes one."""
    given.reals(3).set(task, 1.0)


def two_phases() -> Program:
    return Program("Squares and their sums.", "two phases", "float64", [squares, sums])


def run(program: Program, tasks: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sums as each task found them, and how often each ran."""
    values = torch.linspace(-1.0, 1.0, COUNT, dtype=torch.float64)
    squared, totals = torch.zeros(COUNT, dtype=torch.float64), torch.zeros(tasks, dtype=torch.float64)
    turns = torch.zeros(tasks, dtype=torch.int64)
    program([COUNT, values, squared, totals, turns], tasks)
    np.testing.assert_array_equal(squared.numpy(), values.numpy() ** 2)
    return totals.numpy(), turns.numpy()


def run_two_phases() -> NDArray[np.float64]:
    torch.set_num_threads(2)
    return run(two_phases(), 4)[0]


def expected() -> float:
    total = 0.0
    for value in torch.linspace(-1.0, 1.0, COUNT, dtype=torch.float64).tolist():
        total += value * value
    return total


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of its own for the programs of this file."""
    folder = tmp_path_factory.mktemp("programs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLIP_KERNEL_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def program(folder: Path) -> Program:
    return two_phases()


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("tasks", [1, 2, 3, 12])
def test_phases_follow_one_another_and_every_task_runs_once(program: Program, two_threads: None, tasks: int) -> None:
    for _ in range(20):
        totals, turns = run(program, tasks)
        assert turns.tolist() == [1] * tasks
        assert totals.tolist() == [totals[0]] * tasks
        assert totals[0] == pytest.approx(expected(), rel=1e-14)


def whoami(code: Code, given: Indices, task: Index, tasks: Index) -> None:
    """Each task notes the processor's number of its stack's page, which threads do not share, and waits for others."""
    place = code.scratch(code.lanes)
    given.indices(0).set(task, Index(code, code.builder.ptrtoint(place.value, INTEGER)))
    total = code.variable(code.number(0.0))
    with code.loop(0, 20_000_000) as number:
        total.add(code.number(1.0) / (number.real() + 1.0))
    given.reals(1).set(task, total.get())


def stacks(program: Program, tasks: int) -> int:
    """How many different stacks the tasks of a program ran on."""
    found, totals = torch.zeros(tasks, dtype=torch.int64), torch.zeros(tasks, dtype=torch.float64)
    program([found, totals], tasks)
    return len({address // 2**16 for address in found.tolist()})


def test_threads_are_those_of_torch(folder: Path, program: Program, two_threads: None) -> None:
    own = Program("Stacks of tasks.", "stacks", "float64", [whoami])
    two, _ = run(program, 4)
    assert stacks(own, 4) == 2
    assert stacks(own, 1) == 1
    torch.set_num_threads(1)
    one, _ = run(program, 4)
    assert stacks(own, 4) == 1
    np.testing.assert_array_equal(one, two)
    threads = set(os.listdir("/proc/self/task")) if sys.platform == "linux" else set()
    torch.set_num_threads(2)
    # Torch's own work starts no other threads than those that ran the tasks.
    torch.ones(2**22).exp()
    assert not threads or set(os.listdir("/proc/self/task")) == threads


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_does_not_wait_for_threads_that_it_lacks(program: Program, two_threads: None) -> None:
    two, _ = run(program, 4)
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        one = pool.submit(run_two_phases).result(timeout=60)
    np.testing.assert_array_equal(one, two)


def test_equal_keys_are_compiled_once_and_others_anew(folder: Path, program: Program) -> None:
    before = files(folder)
    assert two_phases()._run is program._run
    assert files(folder) == before
    other = Program("One.", "another key", "float64", [ones])
    totals = torch.zeros(1, dtype=torch.float64)
    other([COUNT, 0, 0, totals, 0], 1)
    assert totals.tolist() == [1.0]
    assert len(files(folder)) == len(before) + 3


def files(folder: Path) -> dict[str, int]:
    """Files below a folder, and when they were changed."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_later_process_compiles_nothing(folder: Path, program: Program) -> None:
    kept = files(folder)
    # The module, and the index and the machine code of Numba's cache.
    assert {Path(path).suffix for path in kept} == {".py", ".nbi", ".nbc"}
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import numba, test_kernels_simd_program as own\n"
        "def refuse(*arguments): raise AssertionError('emitted')\n"
        "own.squares.__code__ = refuse.__code__\n"
        "start = time.process_time(); program = own.two_phases(); totals, _ = own.run(program, 1)\n"
        "print(time.process_time() - start, repr(float(totals[0])), own.torch.get_num_threads())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", script, str(Path(__file__).parent)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seconds, total, threads = (float(word) for word in done.stdout.split())
    assert seconds < 1.0
    # Torch's threads, which run the tasks, keep their number.
    assert threads == 1
    assert total == run(program, 1)[0][0]
    assert files(folder) == kept


def test_a_folder_that_cannot_be_written_to_is_replaced_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not even the superuser makes a folder below a file.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLIP_KERNEL_CACHE", str(tmp_path / "file" / "programs"))
    with pytest.warns(RuntimeWarning, match="cannot be kept in .*file/programs .*set MLIP_KERNEL_CACHE to a folder"):
        program = Program("One.", "kept elsewhere", "float64", [ones])
    totals = torch.zeros(1, dtype=torch.float64)
    program([COUNT, 0, 0, totals, 0], 1)
    assert totals.tolist() == [1.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Program("One.", "kept elsewhere too", "float64", [ones])


def test_folder_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLIP_KERNEL_CACHE", str(tmp_path / "chosen"))
    assert cache_folder() == tmp_path / "chosen"
    monkeypatch.delenv("MLIP_KERNEL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tensor-mlip" / "kernels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "tensor-mlip" / "kernels"
