"""Timing against a clock that the tests wind forward themselves."""

import gc

import pytest
import torch

from mlip.benchmarks.timing import (
    FEWEST_ROUNDS,
    MOST_ROUNDS,
    WARM_UP_CALLS,
    Stopwatch,
    interleave,
    statistics,
    torch_threads,
)


class Clock:
    """A clock, and steps that take as long as they are told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def step(self, name, durations, preparation=100.0):
        remaining = iter(durations)

        def prepare():
            self.now += preparation

            def call():
                self.calls.append(name)
                self.now += next(remaining)

            return call

        return prepare


def forever(duration):
    while True:
        yield duration


def test_statistics_are_percentiles():
    found = statistics([5.0, 1.0, 2.0, 4.0, 3.0, 45.0])
    assert found == (3.5, 2.0, 5.0, 10.0, 6)


def test_preparation_is_not_counted():
    clock = Clock()
    assert Stopwatch(clock).time(clock.step("a", [0.25])) == 0.25


def test_the_device_is_waited_for():
    clock = Clock()
    pending = []

    def synchronise():
        clock.now += sum(pending)
        pending.clear()

    def prepare():
        pending.append(7.0)  # what preparation left to do on the device is not the call's
        return lambda: pending.append(0.5)

    assert Stopwatch(clock, synchronise).time(prepare) == 0.5


def test_rounds_are_interleaved_in_changing_orders():
    clock = Clock()
    steps = {name: clock.step(name, forever(time), 0.0) for name, time in (("a", 1.0), ("b", 2.0), ("c", 4.0))}
    found = interleave(steps, budget=42.0, stopwatch=Stopwatch(clock))
    rounds = ["".join(clock.calls[first : first + 3]) for first in range(0, len(clock.calls), 3)]
    assert {"".join(sorted(each)) for each in rounds} == {"abc"}
    predecessors = {
        second: {a for a, b in zip(clock.calls, clock.calls[1:], strict=False) if b == second} for second in "abc"
    }
    assert all(len(before - {after}) == 2 for after, before in predecessors.items())
    assert {name: each.median for name, each in found.items()} == {"a": 1.0, "b": 2.0, "c": 4.0}
    assert {each.rounds for each in found.values()} == {6}


@pytest.mark.parametrize(("budget", "rounds"), [(0.0, FEWEST_ROUNDS), (1e9, MOST_ROUNDS)])
def test_rounds_are_bounded(budget, rounds):
    clock = Clock()
    assert interleave({"a": clock.step("a", forever(1.0))}, budget, Stopwatch(clock))["a"].rounds == rounds


def test_a_slow_spell_hits_all_alike():
    """While the clock shows 40 to 130 the machine is ten times slower, which one contender alone must not pay for."""
    clock = Clock()

    def durations(time):
        while True:
            yield time * (10.0 if 40.0 <= clock.now < 130.0 else 1.0)

    steps = {name: clock.step(name, durations(time), 0.0) for name, time in (("a", 1.0), ("b", 2.0))}
    found = interleave(steps, 60.0, Stopwatch(clock))
    assert found["b"].median == 2 * found["a"].median == 2.0
    assert found["a"].mean > 1.0
    # Either had its share; whoever runs through the slow spell alone comes out ten times slower.
    assert found["b"].mean == pytest.approx(2 * found["a"].mean, rel=0.25)


def test_warm_up_stops_at_the_limit():
    clock = Clock()
    assert Stopwatch(clock).warm_up(clock.step("a", [30.0, 1.0, 1.0]), limit=20.0) == 30.0
    assert clock.calls == ["a"]
    assert Stopwatch(clock).warm_up(clock.step("b", [9.0, 2.0, 1.0]), limit=20.0) == 1.0
    assert clock.calls.count("b") == WARM_UP_CALLS


def test_garbage_is_left_alone_meanwhile_only():
    clock = Clock()
    seen = []
    interleave({"a": lambda: lambda: seen.append(gc.isenabled())}, 0.0, Stopwatch(clock))
    assert seen == [False] * FEWEST_ROUNDS
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        interleave({"a": lambda: lambda: 1 / 0}, 0.0, Stopwatch(clock))
    assert gc.isenabled()


def test_threads_come_back():
    before = torch.get_num_threads()
    seen = []
    with torch_threads(before + 1):
        seen.append(torch.get_num_threads())
    with torch_threads(None):
        seen.append(torch.get_num_threads())
    assert [*seen, torch.get_num_threads()] == [before + 1, before, before]
