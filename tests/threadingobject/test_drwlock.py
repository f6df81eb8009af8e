"""The replicated read-write lock."""

from __future__ import annotations

import pytest

from concoord_ray.objects.rwlock import RWLock
from concoord_ray.rsm.command import Acknowledge, Cancel, Delete
from tests.rsm.log import calling
from tests.threadingobject.calls import Story, outcome


def test_readers_share_it_and_a_writer_has_it_alone() -> None:
    story = Story(RWLock)
    assert story.does("a", "acquire_read") == {"a": True}
    assert story.does("b", "acquire_read") == {"b": True}
    assert story.does("w", "acquire_write", blocking=False) == {"w": False}
    assert story.does("w", "acquire_write") == {}
    assert story.does("a", "release_read") == {"a": None}
    assert story.does("b", "release_read") == {"b": None, "w": True}
    assert story.does("a", "acquire_read", blocking=False) == {"a": False}
    assert story.does("w", "release_write") == {"w": None}


def test_neither_side_overtakes_the_other() -> None:
    story = Story(RWLock)
    story.does("a", "acquire_read")
    assert story.does("w", "acquire_write") == {}
    assert story.does("b", "acquire_read") == {}
    assert story.does("c", "acquire_read") == {}
    assert story.does("a", "release_read") == {"a": None, "w": True}
    assert story.does("w", "release_write") == {"w": None, "b": True, "c": True}


@pytest.mark.parametrize("how", ["cancel", "end", "timeout"])
def test_readers_behind_a_writer_that_leaves_have_their_turn(how: str) -> None:
    story = Story(RWLock)
    story.does("a", "acquire_read")
    story.does("w", "acquire_write", timeout=1)
    story.does("b", "acquire_read")
    if how == "timeout":
        assert story.waits_for(2) == {"w": False, "b": True}
    else:
        assert getattr(story, how)("w") == {"b": True}


@pytest.mark.parametrize(("take", "give"), [("acquire_read", "release_write"), ("acquire_write", "release_read")])
def test_only_what_is_held_can_be_released(take: str, give: str) -> None:
    story = Story(RWLock)
    assert story.does("a", give) == {"a": RuntimeError}
    story.does("a", take)
    assert story.does("a", give) == {"a": RuntimeError}
    assert story.does("b", give) == {"b": RuntimeError}


@pytest.mark.parametrize("held", ["read", "write"])
@pytest.mark.parametrize("asked", ["read", "write"])
def test_its_holder_is_told_instead_of_waiting_for_itself_and_holds_up_nobody(held: str, asked: str) -> None:
    story = Story(RWLock)
    story.does("a", f"acquire_{held}")
    assert story.does("a", f"acquire_{asked}") == {"a": RuntimeError}
    assert story.does("b", f"acquire_{held}") == ({"b": True} if held == "read" else {})
    assert "a" in story.does("a", f"release_{held}")
    assert story.read("inspect").waiting == ()


@pytest.mark.parametrize("first", ["read", "write"])
@pytest.mark.parametrize("second", ["read", "write"])
def test_an_owner_waits_for_it_once(first: str, second: str) -> None:
    """Two reads of one owner would be one hold, and one release would let a writer in beside the other."""
    story = Story(RWLock)
    story.does("w", "acquire_write")
    assert story.does("a", f"acquire_{first}") == {}
    assert story.does("a", f"acquire_{second}") == {"a": RuntimeError}
    assert story.does("a:another thread", f"acquire_{second}", blocking=False) == {"a:another thread": False}
    (reply,) = [r for r in story.session("w").send(calling(story.object_id, "release_write")) if r.seq == 1]
    assert outcome(reply) is True
    assert story.does("w", "acquire_write") == {}
    assert story.does("a", f"release_{first}") == {"a": None, "w": True}


@pytest.mark.parametrize("how", ["grant", "cancel", "timeout"])
def test_an_owner_that_waits_no_more_may_ask_again(how: str) -> None:
    story = Story(RWLock)
    story.does("w", "acquire_write")
    story.does("a", "acquire_read", timeout=1)
    if how == "cancel":
        assert story.cancel("a") == {}
    elif how == "timeout":
        assert story.waits_for(2) == {"a": False}
    else:
        assert story.does("w", "release_write") == {"w": None, "a": True}
        assert story.does("a", "release_read") == {"a": None}
        assert story.does("w", "acquire_write") == {"w": True}
    assert story.does("a", "acquire_write") == {}
    assert story.does("w", "release_write") == {"w": None, "a": True}


def test_a_call_that_is_cancelled_late_takes_nothing_from_the_next_one() -> None:
    story = Story(RWLock)
    story.does("a", "acquire_write")
    first = story.session("a").seq
    story.does("a", "release_write")
    story.does("a", "acquire_write")
    story.session("a").send(Cancel(first))
    assert len(story.read("inspect").holders) == 1
    assert story.does("b", "acquire_read", blocking=False) == {"b": False}


@pytest.mark.parametrize("how", ["cancel", "end"])
def test_what_a_process_held_or_never_heard_of_comes_back(how: str) -> None:
    story = Story(RWLock)
    story.does("a", "acquire_write")
    story.does("b", "acquire_read")
    assert getattr(story, how)("a") == {"b": True}
    assert [holder.process for holder in story.read("inspect").holders] == ["a test"]


@pytest.mark.parametrize("how", ["end of the session", "end of the task", "deletion", "acknowledgement"])
def test_calls_that_end_together_get_nothing_from_one_another(how: str) -> None:
    """A reader behind its own process's writer: when both go, the writer's place is not the reader's turn."""
    story = Story(RWLock)
    story.does("a", "acquire_read")
    story.does("w:writer@task", "acquire_write")
    story.does("w:reader@task", "acquire_read")
    client = story.session("w")
    if how == "end of the session":
        story.end("w")
    elif how == "end of the task":
        assert story.end("w", task="task") == {"w:writer@task": "CallCancelled", "w:reader@task": "CallCancelled"}
    elif how == "deletion":
        replies = story.session("a").send(Delete(story.object_id))
        assert [outcome(reply) for reply in replies if reply.session == client.session] == ["NoSuchObject"] * 2
        return
    else:
        client.send(Acknowledge(), (client.seq - 1, client.seq))
    assert story.does("a", "release_read") == {"a": None}
    assert story.does("b", "acquire_write") == {"b": True}
