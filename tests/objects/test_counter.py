"""A counter counts."""

from __future__ import annotations

from concoord_ray.objects.counter import Counter
from tests.threadingobject.calls import Story


def test_it_counts_up_and_down() -> None:
    story = Story(Counter, 10)
    assert [story.call("a", "increment"), story.call("b", "increment", 5)] == [11, 16]
    assert [story.call("a", "decrement"), story.call("b", "decrement", by=15)] == [15, 0]
    assert story.read("getvalue") == 0


def test_it_starts_at_zero() -> None:
    assert Story(Counter).read("getvalue") == 0


def test_what_is_no_number_is_refused_and_changes_nothing() -> None:
    story = Story(Counter, 1)
    assert type(story.fails("a", "increment", "x")) is TypeError
    assert story.read("getvalue") == 1


def test_it_is_an_ordinary_object_too() -> None:
    counter = Counter(1)
    counter.increment()
    assert repr(counter) == "<Counter value=2>"
