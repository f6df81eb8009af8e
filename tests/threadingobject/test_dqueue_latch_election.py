"""The replicated queue, count-down latch and election."""

from __future__ import annotations

import queue

import pytest

from concoord_ray.objects.election import Election
from concoord_ray.objects.latch import CountDownLatch
from concoord_ray.objects.queue import Queue
from concoord_ray.rsm.methods import method_flags
from tests.threadingobject.calls import Story


def test_it_says_which_methods_of_the_original_it_lacks() -> None:
    theirs = {name for name, value in vars(queue.Queue).items() if not name.startswith("_") and callable(value)}
    told = f"{Queue.__doc__}".partition("it lacks")[2]
    assert [name for name in theirs - method_flags(Queue).keys() if f"``{name}``" not in told] == []


def test_items_come_out_in_the_order_in_which_they_went_in() -> None:
    story = Story(Queue)
    for item in "abc":
        assert story.does("p", "put", item) == {"p": None}
    assert [story.does("g", "get")["g"] for _ in range(3)] == ["a", "b", "c"]
    assert story.read("empty") is True


def test_a_get_waits_for_an_item_and_a_put_for_room() -> None:
    story = Story(Queue, 1)
    assert story.does("g", "get") == {}
    assert story.does("p", "put", "a") == {"p": None, "g": "a"}
    story.does("p", "put", "b")
    assert story.read("full") is True
    assert story.does("q", "put", None) == {}
    assert story.does("g", "get") == {"g": "b", "q": None}
    assert story.does("g", "get") == {"g": None}


def test_who_does_not_wait_is_told_as_by_queue() -> None:
    story = Story(Queue, 1)
    assert story.does("g", "get_nowait") == {"g": queue.Empty}
    assert story.does("g", "get", timeout=1) == {}
    assert story.waits_for(2) == {"g": queue.Empty}
    story.does("p", "put_nowait", "a")
    assert story.does("p", "put_nowait", "b") == {"p": queue.Full}
    story.does("p", "put", "b", timeout=1)
    assert story.waits_for(2) == {"p": queue.Full}
    assert story.does("p", "put", "b", timeout=-1) == {"p": ValueError}
    assert story.read("qsize") == 1


def test_an_item_whose_taker_was_cancelled_is_taken_by_the_next() -> None:
    story = Story(Queue)
    story.does("a", "get")
    story.does("b", "get")
    story.does("p", "put", "item")
    assert story.cancel("a") == {"b": "item"}


def test_a_cancelled_put_puts_nothing_and_a_dead_getter_takes_nothing() -> None:
    story = Story(Queue, 1)
    story.does("p", "put", "a")
    story.does("q", "put", "b")
    assert story.cancel("q") == {}
    assert story.does("g", "get") == {"g": "a"}
    assert story.read("empty") is True
    story.does("dead", "get")
    story.end("dead")
    assert story.does("p", "put", "c") == {"p": None}
    assert story.read("qsize") == 1


def test_a_latch_opens_when_its_count_is_zero_and_stays_open() -> None:
    story = Story(CountDownLatch, 3)
    story.does("a", "wait")
    story.does("b", "wait", timeout=1)
    assert story.waits_for(2) == {"b": False}
    assert story.does("x", "count_down") == {"x": 2}
    assert story.does("x", "count_down", 5) == {"x": 0, "a": True}
    assert story.does("c", "wait") == {"c": True}
    assert story.read("count") == 0
    assert story.does("x", "count_down", 0) == {"x": ValueError}


def test_a_latch_below_zero_is_refused() -> None:
    with pytest.raises(AssertionError, match="ValueError"):
        Story(CountDownLatch, -1)


def test_candidates_lead_one_after_the_other_with_growing_tokens() -> None:
    story = Story(Election)
    assert story.read("leader") is None
    first = story.does("a", "campaign")["a"]
    assert story.does("b", "campaign") == {}
    assert story.read("leader").token == first
    assert len(story.read("candidates")) == 1
    second = story.does("a", "resign", first)["b"]
    assert second > first
    assert story.does("a", "resign", first) == {"a": RuntimeError}
    story.does("b", "lost", second)
    story.does("c", "campaign", timeout=100)
    answers = story.end("b")
    assert answers["b.lost"] is True
    assert answers["c"] > second
    assert story.does("d", "campaign", timeout=0.5) == {}
    assert story.waits_for(1) == {"d": 0}
