"""The replicated re-entrant lock."""

from __future__ import annotations

from concoord_ray.objects.lock import RLock
from tests.threadingobject.calls import Story


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
