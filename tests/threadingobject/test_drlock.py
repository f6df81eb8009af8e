"""The replicated re-entrant lock."""

from __future__ import annotations

import pytest

from concoord_ray.objects.condition import Condition
from concoord_ray.objects.lock import RLock
from concoord_ray.rsm.command import Acknowledge, Cancel
from tests.rsm.log import calling
from tests.rsm.restored import RestoredLog
from tests.threadingobject.calls import Story, outcome


def test_its_owner_takes_it_again_and_frees_it_as_often() -> None:
    story = Story(RLock)
    assert story.does("a", "acquire") == {"a": True}
    assert story.does("a", "acquire") == {"a": True}
    assert story.does("b", "acquire") == {}
    assert story.does("a", "release") == {"a": None}
    assert story.does("a", "release") == {"a": None, "b": True}


def test_another_thread_of_the_same_process_is_another_owner() -> None:
    story = Story(RLock)
    story.does("a:1", "acquire")
    assert story.does("a:2", "acquire", blocking=False) == {"a:2": False}
    assert story.does("a:2", "release") == {"a:2": RuntimeError}
    assert story.does("a:1", "acquire") == {"a:1": True}


def test_only_its_owner_frees_it() -> None:
    story = Story(RLock)
    assert story.fails("a", "release").args == ("cannot release un-acquired lock",)
    story.does("a", "acquire")
    assert story.fails("b", "release").args == ("cannot release un-acquired lock",)


def test_all_levels_of_one_holding_have_one_token_and_the_next_holding_a_higher_one() -> None:
    story = Story(RLock)
    first = story.does("a", "acquire_fenced")["a"]
    assert story.does("a", "acquire_fenced") == {"a": first}
    story.does("a", "release", token=first)
    story.does("a", "release", token=first)
    assert story.does("b", "acquire_fenced")["b"] > first
    assert story.does("b", "release", token=first) == {"b": RuntimeError}
    assert story.read("locked") is True


def test_a_session_that_ends_frees_all_levels() -> None:
    story = Story(RLock)
    story.does("a", "acquire")
    story.does("a", "acquire")
    story.does("b", "acquire")
    assert story.end("a") == {"b": True}


def test_a_cancelled_acquire_of_its_owner_gives_back_one_level() -> None:
    story = Story(RLock)
    story.does("a", "acquire")
    story.does("a", "acquire")
    assert story.cancel("a") == {}
    assert story.read("locked") is True
    assert story.does("a", "release") == {"a": None}
    assert story.read("locked") is False


def test_it_shows_its_depth() -> None:
    story = Story(RLock)
    story.does("a", "acquire")
    story.does("a", "acquire")
    (holder,) = story.read("inspect").holders
    assert (holder.depth, holder.owner, holder.process) == (2, "main", "a test")


class RestoredStory(Story):
    make_log = RestoredLog


def asked_twice(story: Story, timeout: float = -1) -> tuple[int, int]:
    """``a`` holds the lock; ``b`` has two calls that wait for it, one before and one behind that of ``c``."""
    story.does("a", "acquire")
    story.does("b", "acquire", timeout=timeout)
    story.does("c", "acquire")
    story.does("b", "acquire_fenced")
    return story.session("b").seq - 1, story.session("b").seq


def test_calls_of_one_owner_that_wait_are_granted_together() -> None:
    """As they are if the lock is free: the second would wait for its own owner."""
    story = RestoredStory(RLock)
    first, second = asked_twice(story)
    assert isinstance(story.log, RestoredLog)
    story.log.restore()
    b = story.session("b")
    replies = story.session("a").send(calling(story.object_id, "release"))
    assert [(r.session, r.seq) for r in replies[:2]] == [(b.session, first), (b.session, second)]
    (holder,) = story.read("inspect").holders
    assert (holder.depth, outcome(replies[1])) == (2, holder.token)
    assert len(story.read("inspect").waiting) == 1
    assert b.call(story.object_id, "release") is None
    assert story.does("b", "release") == {"b": None, "c": True}


@pytest.mark.parametrize("how", ["cancel", "acknowledgement", "timeout"])
def test_a_call_that_waits_no_more_is_not_granted_with_the_others_of_its_owner(how: str) -> None:
    story = Story(RLock)
    first, _ = asked_twice(story, timeout=1)
    b = story.session("b")
    if how == "cancel":
        b.send(Cancel(first))
    elif how == "acknowledgement":
        b.send(Acknowledge(), (first, first))
    else:
        story.log.pass_time(2)
    assert story.does("a", "release") == {"a": None, "c": True}
    assert story.does("c", "release")["c"] is None
    assert [holder.depth for holder in story.read("inspect").holders] == [1]
    assert story.does("b", "release") == {"b": None}
    assert story.read("locked") is False


def test_who_has_its_lock_back_from_a_condition_has_its_other_calls_granted_too() -> None:
    story = Story(Condition)
    story.does("b", "acquire")
    b = story.session("b")
    b.park(story.object_id, "wait", 1)
    story.does("a", "acquire")
    story.log.pass_time(2)
    b.park(story.object_id, "acquire")
    replies = story.session("a").send(calling(story.object_id, "release"))
    assert [outcome(r) for r in replies if r.session == b.session] == [False, True]
    assert b.call(story.object_id, "release") is None
    assert b.call(story.object_id, "release") is None
    assert story.does("c", "acquire") == {"c": True}
