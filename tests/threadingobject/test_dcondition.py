"""The replicated condition variable."""

from __future__ import annotations

from typing import Any

import pytest

from concoord_ray.objects.condition import Condition
from concoord_ray.objects.lock import Lock, RLock
from concoord_ray.objects.semaphore import Semaphore
from tests.rsm.log import Handle
from tests.threadingobject.calls import Story


def waiting(*names: str) -> Story:
    """A condition in which these wait, in this order."""
    story = Story(Condition)
    for name in names:
        assert story.does(name, "acquire") == {name: True}
        assert story.does(name, "wait") == {}
    return story


def test_a_notified_waiter_has_its_lock_back_when_it_goes_on() -> None:
    story = waiting("a")
    assert story.does("b", "acquire") == {"b": True}
    assert story.does("b", "notify") == {"b": None}
    assert story.does("b", "release") == {"b": None, "a": True}
    assert story.does("c", "acquire", blocking=False) == {"c": False}
    assert story.does("a", "release") == {"a": None}


def test_it_waits_under_contention() -> None:
    story = Story(Condition)
    story.does("a", "acquire")
    story.does("b", "acquire")
    assert story.does("a", "wait") == {"b": True}
    assert story.does("b", "release") == {"b": None}
    assert story.waits_for(100) == {}


def test_the_first_who_waits_is_the_first_who_is_notified() -> None:
    story = waiting("a", "b", "c")
    story.does("n", "acquire")
    story.does("n", "notify", 2)
    assert story.does("n", "release") == {"n": None, "a": True}
    assert story.does("a", "release") == {"a": None, "b": True}
    assert story.does("b", "release") == {"b": None}


def test_notify_all_wakes_all_one_after_the_other() -> None:
    story = waiting("a", "b", "c")
    story.does("n", "acquire")
    assert story.does("n", "notify_all") == {"n": None}
    assert story.does("n", "release") == {"n": None, "a": True}
    assert story.does("a", "release") == {"a": None, "b": True}
    assert story.does("b", "release") == {"b": None, "c": True}


def test_who_is_notified_stands_behind_those_who_wait_for_the_lock_already() -> None:
    story = waiting("a")
    story.does("n", "acquire")
    story.does("x", "acquire")
    story.does("n", "notify")
    assert story.does("n", "release") == {"n": None, "x": True}
    assert story.does("x", "release") == {"x": None, "a": True}


@pytest.mark.parametrize("method", ["wait", "notify", "notify_all"])
def test_who_does_not_own_the_lock_is_told_so(method: str) -> None:
    story = Story(Condition)
    assert story.does("a", method) == {"a": RuntimeError}
    story.does("b", "acquire")
    assert story.does("a", method) == {"a": RuntimeError}


def test_the_same_holds_over_a_plain_lock() -> None:
    story = Story(Lock)
    condition = story.session("creator").create(Condition, lock=Handle(story.object_id))
    story.does("b", "acquire")
    assert story.does("a", "wait", of=condition) == {"a": RuntimeError}
    assert story.does("b", "wait", of=condition) == {}


def test_a_wait_that_times_out_is_false_and_has_the_lock_again() -> None:
    story = waiting("a")
    story.does("b", "acquire", timeout=5)
    story = Story(Condition)
    story.does("a", "acquire")
    story.does("a", "wait", timeout=2)
    assert story.waits_for(1.5) == {}
    assert story.waits_for(1.0) == {"a": False}
    assert story.does("b", "acquire", blocking=False) == {"b": False}


def test_a_wait_that_times_out_stands_in_line_for_the_lock() -> None:
    story = Story(Condition)
    story.does("a", "acquire")
    story.does("a", "wait", timeout=2)
    story.does("b", "acquire")
    assert story.waits_for(3) == {}
    story.does("b", "notify_all")
    assert story.does("b", "release") == {"b": None, "a": False}


def test_a_wait_of_no_time_lets_others_go_first() -> None:
    story = Story(Condition)
    story.does("a", "acquire")
    story.does("b", "acquire")
    assert story.does("a", "wait", timeout=0) == {"b": True}
    assert story.waits_for(0.001) == {}
    assert story.does("b", "release") == {"b": None, "a": False}


def test_a_notification_in_time_is_not_undone_by_the_timeout() -> None:
    story = Story(Condition)
    story.does("a", "acquire")
    story.does("a", "wait", timeout=2)
    story.does("b", "acquire")
    story.does("b", "notify")
    assert story.waits_for(10) == {}
    assert story.does("b", "release") == {"b": None, "a": True}


def test_wait_gives_up_every_level_of_an_rlock_and_restores_it() -> None:
    story = Story(Condition)
    for _ in range(3):
        story.does("a", "acquire")
    story.does("a", "wait")
    assert story.does("b", "acquire") == {"b": True}
    story.does("b", "notify")
    assert story.does("b", "release") == {"b": None, "a": True}
    for _ in range(2):
        story.does("a", "release")
        assert story.does("c", "acquire", blocking=False) == {"c": False}
    story.does("a", "release")
    assert story.does("c", "acquire", blocking=False) == {"c": True}


@pytest.mark.parametrize("cls", [Lock, RLock])
def test_two_conditions_share_a_lock(cls: type) -> None:
    story = Story(cls)
    creator = story.session("creator")
    full = creator.create(Condition, lock=Handle(story.object_id))
    empty = creator.create(Condition, lock=Handle(story.object_id))
    story.does("a", "acquire", of=full)
    story.does("a", "wait", of=full)
    story.does("b", "acquire")
    story.does("b", "wait", of=empty)
    assert story.does("n", "acquire", of=empty) == {"n": True}
    assert story.does("x", "acquire", blocking=False) == {"x": False}
    story.does("n", "notify", of=full)
    assert story.does("n", "release") == {"n": None, "a": True}
    assert story.does("a", "release") == {"a": None}
    assert len(story.read("inspect", of=empty).waiting) == 1


def test_the_token_of_with_is_good_after_a_wait() -> None:
    """A wait ends one grant and begins another; whoever entered with the first token may leave with it."""
    story = Story(Lock)
    condition = story.session("creator").create(Condition, lock=Handle(story.object_id))
    token = story.does("a", "acquire_fenced")["a"]
    story.does("a", "wait", of=condition)
    between = story.does("n", "acquire_fenced")["n"]
    assert between > token
    story.does("n", "notify", of=condition)
    assert story.does("n", "release", token=token) == {"n": RuntimeError}
    assert story.does("n", "release", token=between) == {"n": None, "a": True}
    (holder,) = story.read("inspect").holders
    assert holder.token > between
    assert story.does("n", "release", token=between) == {"n": RuntimeError}
    assert story.does("a", "release", token=token) == {"a": None}


@pytest.mark.parametrize("how", ["cancel", "end"])
def test_a_waiter_that_leaves_takes_no_notification(how: str) -> None:
    story = waiting("a", "b")
    assert getattr(story, how)("a") == {}
    story.does("n", "acquire")
    story.does("n", "notify")
    assert story.does("n", "release") == {"n": None, "b": True}


@pytest.mark.parametrize("how", ["cancel", "end"])
def test_a_waiter_that_leaves_after_it_was_notified_passes_it_on(how: str) -> None:
    story = waiting("a", "b")
    story.does("n", "acquire")
    story.does("n", "notify")
    assert getattr(story, how)("a") == {}
    assert story.does("n", "release") == {"n": None, "b": True}


def test_a_wait_that_was_cancelled_too_late_gives_the_lock_and_the_notification_back() -> None:
    story = waiting("a", "b")
    story.does("n", "acquire")
    story.does("n", "notify")
    assert story.does("n", "release") == {"n": None, "a": True}
    assert story.cancel("a") == {"b": True}


def test_what_times_out_and_then_leaves_was_never_notified() -> None:
    story = Story(Condition)
    story.does("a", "acquire")
    story.does("a", "wait", timeout=1)
    story.does("b", "acquire")
    story.does("b", "wait")
    story.does("n", "acquire")
    assert story.waits_for(2) == {}
    assert story.cancel("a") == {}
    assert story.does("n", "release") == {"n": None}
    assert len(story.read("inspect").waiting) == 1


@pytest.mark.parametrize("lock", [3, "lock", Condition])
def test_a_lock_that_is_none_is_refused(lock: Any) -> None:
    story = Story(Lock)
    failure = story.session("a")
    with pytest.raises(AssertionError, match="TypeError"):
        failure.create(Condition, lock)


def test_a_semaphore_is_no_lock() -> None:
    story = Story(Semaphore)
    with pytest.raises(AssertionError, match="a Lock or RLock of this ensemble is needed"):
        story.session("a").create(Condition, Handle(story.object_id))


@pytest.mark.parametrize("timeout", ["1", 1e12])
def test_a_bad_timeout_changes_nothing(timeout: Any) -> None:
    story = Story(Condition)
    story.does("a", "acquire")
    assert set(story.does("a", "wait", timeout).values()) <= {TypeError, OverflowError}
    assert story.does("a", "release") == {"a": None}
