"""The replicated event, and the bounded semaphore."""

from __future__ import annotations

import pytest

from concoord_ray.objects.event import Event
from concoord_ray.objects.semaphore import BoundedSemaphore, Semaphore
from tests.threadingobject.calls import Story


def test_set_wakes_all_who_wait() -> None:
    story = Story(Event)
    story.does("a", "wait")
    story.does("b", "wait", timeout=10)
    assert story.does("x", "set") == {"a": True, "b": True, "x": None}
    assert story.does("c", "wait") == {"c": True}
    assert story.read("is_set") is True


def test_after_clear_they_wait_again() -> None:
    story = Story(Event)
    story.does("x", "set")
    story.does("x", "clear")
    assert story.read("is_set") is False
    assert story.does("a", "wait", timeout=1) == {}
    assert story.waits_for(2) == {"a": False}


@pytest.mark.parametrize("timeout", [0, -1])
def test_an_event_with_no_time_only_looks(timeout: float) -> None:
    story = Story(Event)
    assert story.does("a", "wait", timeout) == {"a": False}
    story.does("x", "set")
    assert story.does("a", "wait", timeout) == {"a": True}


def test_a_release_too_many_is_an_error_and_changes_nothing() -> None:
    story = Story(BoundedSemaphore, 2)
    failure = story.fails("a", "release")
    assert type(failure) is ValueError
    assert failure.args == ("Semaphore released too many times",)
    story.does("a", "acquire")
    assert story.does("a", "release", 2) == {"a": ValueError}
    assert story.read("describe") == "<DBoundedSemaphore count=1>"
    assert story.does("a", "release") == {"a": None}


def test_a_bounded_semaphore_grants_as_any_other() -> None:
    story = Story(BoundedSemaphore, 1)
    story.does("a", "acquire")
    story.does("b", "acquire")
    assert story.does("a", "release") == {"a": None, "b": True}
    assert story.end("b") == {}
    assert story.read("describe") == "<DBoundedSemaphore count=1>"


def test_a_late_release_of_a_permit_that_was_given_back_does_not_raise_the_capacity() -> None:
    story = Story(BoundedSemaphore, 1)
    story.does("a", "acquire")
    story.end("a")
    assert story.does("other", "release") == {"other": ValueError}


def test_a_ray_tasks_permits_come_back_with_its_end() -> None:
    story = Story(Semaphore, 2)
    story.does("w:1@t1", "acquire")
    story.does("w:1@t2", "acquire")
    story.does("b", "acquire")
    assert story.end("w", task="t1") == {"b": True}
    assert story.read("describe") == "<DSemaphore count=0>"


def test_a_semaphore_tells_who_has_its_permits() -> None:
    story = Story(Semaphore, 2)
    story.does("a:x", "acquire")
    story.waits_for(1)
    story.does("b", "acquire")
    story.does("c", "acquire")
    seen = story.read("inspect")
    assert [(h.owner, h.for_s) for h in seen.holders] == [("x", 1.0), ("main", 0.0)]
    assert len(seen.waiting) == 1
