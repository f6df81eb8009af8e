"""The replicated lock: one grant at a time, in order, each with a token above all earlier ones."""

from __future__ import annotations

import pytest

from concoord_ray.objects.lock import Lock
from tests.threadingobject.calls import Story


def test_it_is_granted_first_come_first_served() -> None:
    story = Story(Lock)
    assert story.call("a", "acquire") is True
    for name in "bcd":
        story.waits(name, "acquire")
    assert story.wakes("a", "release") == {"b": True}
    assert story.wakes("b", "release") == {"c": True}
    assert story.wakes("c", "release") == {"d": True}
    assert story.call("d", "release") is None
    assert story.read("locked") is False


def test_nobody_overtakes_the_queue() -> None:
    story = Story(Lock)
    story.call("a", "acquire")
    story.waits("b", "acquire")
    assert story.wakes("a", "release") == {"b": True}
    assert story.call("c", "acquire", blocking=False) is False


def test_its_own_holder_waits_as_anyone_does() -> None:
    story = Story(Lock)
    story.call("a", "acquire")
    story.waits("a", "acquire")
    assert story.wakes("b", "release") == {"a": True}


def test_anyone_may_release_it() -> None:
    story = Story(Lock)
    story.call("a", "acquire")
    assert story.call("b", "release") is None
    assert story.read("locked") is False


def test_what_is_not_locked_cannot_be_released() -> None:
    story = Story(Lock)
    failure = story.fails("a", "release")
    assert type(failure) is RuntimeError
    assert failure.args == ("release unlocked lock",)


def test_each_grant_has_a_token_above_all_earlier_ones() -> None:
    story = Story(Lock)
    tokens = []
    for name in "abc":
        tokens.append(story.call(name, "acquire_fenced"))
        story.call(name, "release")
    tokens.append(story.call("a", "acquire_fenced"))
    story.waits("b", "acquire_fenced")
    tokens.append(story.wakes("a", "release", token=tokens[-1])["b"])
    assert tokens == sorted(set(tokens))
    assert all(type(token) is int and token > 0 for token in tokens)


def test_tokens_of_all_locks_come_from_one_counter() -> None:
    story = Story(Lock)
    client = story.session("a")
    tokens = [client.call(client.create(Lock), "acquire_fenced") for _ in range(3)]
    assert tokens == sorted(set(tokens))


def test_a_stale_release_raises_and_changes_nothing() -> None:
    story = Story(Lock)
    old = story.call("a", "acquire_fenced")
    story.waits("b", "acquire_fenced")
    (new,) = story.wakes("a", "release", token=old).values()
    story.waits("c", "acquire")
    failure = story.fails("a", "release", token=old)
    assert type(failure) is RuntimeError
    assert str(old) in str(failure)
    assert story.read("locked") is True
    assert story.wakes("b", "release", token=new) == {"c": True}


def test_a_timeout_gives_false_and_no_token() -> None:
    story = Story(Lock)
    story.call("a", "acquire")
    story.waits("b", "acquire", timeout=1.0)
    story.waits("c", "acquire_fenced", timeout=1.0)
    assert story.passes(1.0) == {"b": False, "c": 0}
    assert story.call("b", "acquire", blocking=False) is False
    assert story.call("c", "acquire_fenced", blocking=False) == 0
    assert story.call("c", "acquire_fenced", timeout=0) == 0
    assert story.call("a", "release") is None


@pytest.mark.parametrize("method", ["acquire", "acquire_fenced"])
def test_the_end_of_its_holders_session_grants_it_to_the_next(method: str) -> None:
    story = Story(Lock)
    story.call("a", method)
    story.waits("b", "acquire")
    story.waits("c", "acquire")
    assert story.ends("a") == {"b": True}
    assert story.ends("b") == {"c": True}
    assert story.ends("c") == {}
    assert story.read("locked") is False


def test_a_session_that_only_waits_takes_nothing_along() -> None:
    story = Story(Lock)
    story.call("a", "acquire")
    story.waits("b", "acquire")
    story.waits("c", "acquire")
    assert story.ends("b") == {}
    assert story.wakes("a", "release") == {"c": True}


def test_a_cancelled_grant_goes_to_the_next() -> None:
    story = Story(Lock)
    story.call("a", "acquire")
    story.waits("b", "acquire")
    assert story.cancels("a") == {"b": True}
    assert story.cancels("b") == {}
    assert story.read("locked") is False


def test_a_cancelled_grant_that_was_released_is_not_taken_from_the_next() -> None:
    story = Story(Lock)
    story.call("a", "acquire")
    story.waits("b", "acquire")
    assert story.wakes("c", "release") == {"b": True}
    assert story.cancels("a") == {}
    assert story.read("locked") is True


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"blocking": False, "timeout": 1}, ValueError),
        ({"timeout": -2}, ValueError),
        ({"timeout": 1e100}, OverflowError),
        ({"timeout": "soon"}, TypeError),
        ({"timeout": None}, TypeError),
        ({"nonsense": 1}, TypeError),
    ],
)
def test_bad_arguments_raise_and_change_nothing(arguments: dict[str, object], kind: type[Exception]) -> None:
    story = Story(Lock)
    assert type(story.fails("a", "acquire", **arguments)) is kind
    assert story.read("locked") is False
    story.call("a", "acquire")
    assert type(story.fails("a", "acquire", **arguments)) is kind
    assert story.call("a", "release") is None
