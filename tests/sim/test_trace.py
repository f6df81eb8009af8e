"""The trace: bounded in memory, complete in its hash. And histories."""

from __future__ import annotations

import pytest

from tests.sim.clock import Scheduler
from tests.sim.history import UNKNOWN, History, Raised
from tests.sim.trace import Trace


def test_the_hash_covers_lines_that_are_no_longer_kept() -> None:
    digests = set()
    for first in ("this", "that"):
        trace = Trace(Scheduler(1), keep=3)
        trace.log("a", first)
        for number in range(10):
            trace.log("a", str(number))
        assert [line.split()[-1] for line in trace.lines()] == ["7", "8", "9"]
        assert trace.count == 11
        digests.add(trace.digest())
    assert len(digests) == 2


def test_the_hash_covers_the_time() -> None:
    digests = set()
    for delay_s in (1.0, 1.000000001):
        scheduler = Scheduler(1)
        trace = Trace(scheduler)
        scheduler.after(delay_s, lambda trace=trace: trace.log("a", "event"))  # type: ignore[misc]
        scheduler.run(5.0)
        digests.add(trace.digest())
    assert len(digests) == 2


def test_a_full_trace_keeps_everything_and_its_tail_says_what_is_missing() -> None:
    trace = Trace(Scheduler(12), full=True)
    for number in range(1000):
        trace.log("node", f"event {number}")
    assert len(trace.lines()) == 1000
    assert trace.tail(2).splitlines()[0] == "... 998 lines before (seed 12)"
    assert len(list(trace.grep("node", "event 99"))) == 11


def test_what_one_observer_saw_in_sequence_is_never_concurrent() -> None:
    history = History()
    first = history.invoke(1, "x", "write", [1], at_ns=5)
    history.returned(first, None, at_ns=5)
    second = history.invoke(1, "x", "read", [], at_ns=5)
    history.returned(second, 1, at_ns=3)
    write, read = history.operations()
    assert write.returned_ns is not None
    assert read.returned_ns is not None
    assert write.invoked_ns < write.returned_ns < read.invoked_ns < read.returned_ns


def test_calls_without_an_answer_stay_open_and_dropped_ones_vanish() -> None:
    history = History()
    history.invoke(1, "x", "write", [1], at_ns=0)
    history.dropped(history.invoke(2, "x", "write", [2], at_ns=1))
    raised = history.invoke(3, "x", "release", [], at_ns=2)
    history.returned(raised, Raised("RuntimeError"), at_ns=3)
    assert [(each.process, each.is_open, each.result) for each in history.operations()] == [
        (1, True, UNKNOWN),
        (3, False, Raised("RuntimeError")),
    ]
    assert len(history) == 2
    with pytest.raises(ValueError, match="answered twice"):
        history.returned(raised, None, at_ns=4)
    with pytest.raises(ValueError, match="cannot be dropped"):
        history.dropped(raised)
