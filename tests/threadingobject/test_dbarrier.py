"""The replicated barrier."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from concoord_ray.objects.barrier import Barrier
from tests.threadingobject.calls import Story

Broken = threading.BrokenBarrierError


def test_nobody_goes_on_until_all_have_come_and_then_all_do() -> None:
    story = Story(Barrier, 3)
    assert story.does("a", "wait") == {}
    assert story.does("b", "wait") == {}
    assert story.read("n_waiting") == 2
    assert story.does("c", "wait") == {"a": 0, "b": 1, "c": 2}
    assert story.read("n_waiting") == 0


def test_it_can_be_used_again_and_again() -> None:
    story = Story(Barrier, 2)
    for _ in range(3):
        story.does("a", "wait")
        assert story.does("b", "wait") == {"a": 0, "b": 1}


def test_one_party_never_waits() -> None:
    assert Story(Barrier, 1).does("a", "wait") == {"a": 0}


@pytest.mark.parametrize("method", ["abort", "reset"])
def test_abort_and_reset_dismiss_those_who_wait(method: str) -> None:
    story = Story(Barrier, 3)
    story.does("a", "wait")
    story.does("b", "wait")
    assert story.does("x", method) == {"a": Broken, "b": Broken, "x": None}
    assert story.read("broken") is (method == "abort")
    assert story.does("a", "wait") == ({"a": Broken} if method == "abort" else {})


def test_reset_mends_it() -> None:
    story = Story(Barrier, 2)
    story.does("x", "abort")
    story.does("x", "reset")
    story.does("a", "wait")
    assert story.does("b", "wait") == {"a": 0, "b": 1}


def test_one_timeout_breaks_it_for_all() -> None:
    story = Story(Barrier, 3)
    story.does("a", "wait", timeout=5)
    story.does("b", "wait", timeout=1)
    assert story.waits_for(2) == {"a": Broken, "b": Broken}
    assert story.read("broken") is True


def test_a_wait_of_no_time_breaks_it_at_once() -> None:
    story = Story(Barrier, 3)
    story.does("a", "wait")
    assert story.does("b", "wait", timeout=0) == {"a": Broken, "b": Broken}


def test_its_own_timeout_is_that_of_every_wait() -> None:
    story = Story(Barrier, 2, timeout=1)
    story.does("a", "wait")
    assert story.waits_for(2) == {"a": Broken}


def test_the_last_to_come_may_have_no_time() -> None:
    story = Story(Barrier, 2)
    story.does("a", "wait")
    assert story.does("b", "wait", timeout=0) == {"a": 0, "b": 1}


@pytest.mark.parametrize("how", ["cancel", "end"])
def test_a_waiter_that_leaves_leaves_a_place(how: str) -> None:
    story = Story(Barrier, 3)
    story.does("a", "wait")
    story.does("b", "wait")
    assert getattr(story, how)("a") == {}
    assert story.does("c", "wait") == {}
    assert story.does("d", "wait") == {"b": 0, "c": 1, "d": 2}


@pytest.mark.parametrize("parties", [0, -1, "2"])
def test_a_barrier_of_nobody_is_refused(parties: Any) -> None:
    with pytest.raises(AssertionError, match=r"ValueError|TypeError"):
        Story(Barrier, parties)


def test_it_tells_its_parties() -> None:
    story = Story(Barrier, 4)
    story.does("a", "wait")
    assert story.read("parties") == 4
    assert story.read("inspect").primitive == "<DBarrier waiters=1/4>"
