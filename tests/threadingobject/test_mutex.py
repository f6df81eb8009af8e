"""What locks have in common: news of a grant's end, force_release, Ray tasks, inspection."""

from __future__ import annotations

import pytest

from concoord_ray.objects.lock import Lock, RLock
from tests.threadingobject.calls import Story

LOCKS = pytest.mark.parametrize("cls", [Lock, RLock])


@LOCKS
def test_a_release_is_no_loss(cls: type) -> None:
    story = Story(cls)
    story.does("a", "acquire")
    assert story.does("a", "lost") == {}
    assert story.does("a", "release") == {"a": None, "a.lost": False}


@LOCKS
def test_a_session_that_ends_has_lost_it_before_it_is_given_to_the_next(cls: type) -> None:
    story = Story(cls)
    token = story.does("a", "acquire_fenced")["a"]
    story.does("a", "lost")
    story.does("c", "lost", token)
    story.does("b", "acquire")
    assert list(story.end("a").items()) == [("a.lost", True), ("c.lost", True), ("b", True)]


@LOCKS
def test_a_lock_taken_away_by_force_is_lost_and_its_token_stale(cls: type) -> None:
    story = Story(cls)
    token = story.does("a", "acquire_fenced")["a"]
    story.does("a", "lost")
    story.does("b", "acquire_fenced")
    answers = story.does("admin", "force_release")
    assert answers.pop("b") > token
    assert answers == {"a.lost": True, "admin": True}
    assert story.does("a", "release", token=token) == {"a": RuntimeError}
    assert story.read("locked") is True


@LOCKS
def test_force_release_of_a_free_lock_says_so(cls: type) -> None:
    assert Story(cls).does("admin", "force_release") == {"admin": False}


@LOCKS
def test_the_loss_of_what_is_not_held_cannot_be_awaited(cls: type) -> None:
    story = Story(cls)
    assert story.does("a", "lost") == {"a.lost": RuntimeError}
    token = story.does("a", "acquire_fenced")["a"]
    assert story.does("b", "lost") == {"b.lost": RuntimeError}
    assert story.does("b", "lost", token - 1) == {"b.lost": RuntimeError}


@LOCKS
def test_a_ray_task_that_ends_gives_back_what_it_held_and_waits_no_more(cls: type) -> None:
    story = Story(cls)
    story.does("worker:7@t1", "acquire")
    story.does("b", "acquire")
    assert story.end("worker", task="t0") == {}
    assert story.end("worker", task="t1") == {"b": True}
    story.does("worker:7@t2", "acquire")
    story.does("c", "acquire")
    assert story.end("worker", task="t2") == {"worker:7@t2": "CallCancelled"}
    assert story.does("b", "release") == {"b": None, "c": True}


@LOCKS
def test_the_next_task_of_a_worker_does_not_own_what_the_last_one_held(cls: type) -> None:
    story = Story(cls)
    story.does("worker:7@t1", "acquire")
    assert story.does("worker:7@t2", "acquire", blocking=False) == {"worker:7@t2": False}


@LOCKS
def test_it_tells_who_holds_it_and_who_waits(cls: type) -> None:
    story = Story(cls)
    token = story.does("a", "acquire_fenced")["a"]
    story.waits_for(1.0)
    story.does("b:x", "acquire", timeout=60)
    story.does("c", "acquire")
    story.waits_for(2.0)
    seen = story.read("inspect")
    assert [(h.token, h.for_s, h.process) for h in seen.holders] == [(token, 3.0, "a test")]
    assert [(w.owner, w.for_s) for w in seen.waiting] == [("x", 2.0), ("main", 2.0)]


def test_reprs_are_as_in_the_original() -> None:
    story = Story(Lock)
    assert story.read("inspect").primitive == "<DLock unlocked>"
    story.does("a", "acquire")
    assert story.read("inspect").primitive == "<DLock locked>"
