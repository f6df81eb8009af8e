"""The replicated semaphore: permits that a dead client gives back, once."""

from __future__ import annotations

import random
import threading

import pytest

from concoord_ray.objects.semaphore import Semaphore
from tests.threadingobject.calls import Story


def permits(story: Story) -> int:
    """How many are free."""
    return int(story.read("describe").removeprefix("<DSemaphore count=").removesuffix(">"))


def test_permits_are_granted_first_come_first_served() -> None:
    story = Story(Semaphore, 1)
    assert story.call("a", "acquire") is True
    for name in "bcd":
        story.waits(name, "acquire")
    assert story.wakes("a", "release") == {"b": True}
    assert story.wakes("b", "release", 2) == {"c": True, "d": True}
    assert story.call("c", "release") is None
    assert permits(story) == 1


def test_nobody_waits_while_a_permit_is_free() -> None:
    story = Story(Semaphore, 0)
    for name in "ab":
        story.waits(name, "acquire")
    assert story.wakes("c", "release", 5) == {"a": True, "b": True}
    assert permits(story) == 3


@pytest.mark.parametrize("value", [-1, -100])
def test_there_is_no_negative_semaphore(value: int) -> None:
    with pytest.raises(ValueError, match="semaphore initial value must be >= 0"):
        threading.Semaphore(value)
    with pytest.raises(AssertionError, match="semaphore initial value must be >= 0"):
        Story(Semaphore, value)


@pytest.mark.parametrize("n", [0, -1])
def test_one_or_more_are_released(n: int) -> None:
    story = Story(Semaphore, 1)
    failure = story.fails("a", "release", n)
    assert type(failure) is ValueError
    assert failure.args == ("n must be one or more",)
    assert permits(story) == 1


def test_any_number_is_released_at_once() -> None:
    story = Story(Semaphore, 1)
    story.call("a", "acquire")
    story.call("b", "release", 10**12)
    assert permits(story) == 10**12


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"blocking": False, "timeout": 1}, ValueError),
        ({"blocking": False, "timeout": 0}, ValueError),
        ({"timeout": 1e100}, OverflowError),
        ({"timeout": "soon"}, TypeError),
    ],
)
def test_bad_arguments_raise_and_change_nothing(arguments: dict[str, object], kind: type[Exception]) -> None:
    story = Story(Semaphore, 1)
    assert type(story.fails("a", "acquire", **arguments)) is kind
    assert permits(story) == 1


def test_a_timeout_gives_false_and_takes_nothing() -> None:
    story = Story(Semaphore, 0)
    story.waits("a", "acquire", timeout=1.0)
    assert story.call("b", "acquire", timeout=0) is False
    assert story.call("b", "acquire", timeout=-5) is False
    assert story.call("b", "acquire", blocking=False) is False
    assert story.passes(1.0) == {"a": False}
    story.call("c", "release")
    assert permits(story) == 1


def test_the_end_of_a_session_frees_its_permits() -> None:
    story = Story(Semaphore, 2)
    story.call("a", "acquire")
    story.call("a", "acquire")
    story.waits("b", "acquire")
    story.waits("c", "acquire")
    assert story.ends("a") == {"b": True, "c": True}


def test_the_end_of_a_session_does_not_free_a_permit_that_it_handed_on() -> None:
    story = Story(Semaphore, 1)
    story.call("a", "acquire")
    story.call("b", "release")
    story.ends("a")
    assert permits(story) == 1


def test_a_foreign_release_discharges_the_permit_that_is_out_for_longest() -> None:
    story = Story(Semaphore, 2)
    story.call("a", "acquire")
    story.call("b", "acquire")
    story.call("c", "release")
    story.ends("a")
    assert permits(story) == 1
    story.ends("b")
    assert permits(story) == 2


def test_a_session_that_keeps_acquiring_is_not_out_for_longest() -> None:
    story = Story(Semaphore, 3)
    story.call("a", "acquire")
    story.call("b", "acquire")
    story.call("a", "acquire")
    story.call("a", "release")
    story.call("c", "release")
    story.ends("b")
    assert permits(story) == 2
    story.ends("a")
    assert permits(story) == 3


def test_a_session_releases_its_own_permits_first() -> None:
    story = Story(Semaphore, 2)
    story.call("a", "acquire")
    story.call("b", "acquire")
    story.call("b", "release")
    story.ends("b")
    assert permits(story) == 1
    story.ends("a")
    assert permits(story) == 2


def test_a_permit_that_nobody_held_is_a_new_one() -> None:
    story = Story(Semaphore, 0)
    story.call("a", "release")
    story.ends("a")
    assert permits(story) == 1


def test_a_cancelled_grant_goes_to_the_next() -> None:
    story = Story(Semaphore, 1)
    story.call("a", "acquire")
    story.waits("b", "acquire")
    assert story.cancels("a") == {"b": True}
    story.ends("a")
    assert permits(story) == 0


def test_a_cancelled_wait_takes_nothing() -> None:
    story = Story(Semaphore, 0)
    story.waits("a", "acquire")
    story.cancels("a")
    story.call("b", "release")
    assert permits(story) == 1


@pytest.mark.parametrize("seed", range(10))
def test_permits_are_neither_made_nor_lost(seed: int) -> None:
    """Acquired, released by their own holders, cancelled, or left behind by sessions that end: the sum is the same."""
    rng = random.Random(seed)
    story, total = Story(Semaphore, 3), 3
    held: dict[str, int] = {}
    for _ in range(150):
        name = rng.choice("abcde")
        action = rng.random()
        if action < 0.5:
            if story.call(name, "acquire", blocking=False):
                held[name] = held.get(name, 0) + 1
                if rng.random() < 0.2:
                    story.cancels(name)
                    held[name] -= 1
        elif action < 0.8 and held.get(name):
            story.call(name, "release")
            held[name] -= 1
        elif held.pop(name, 0):
            story.ends(name)
        assert permits(story) == total - sum(held.values())
