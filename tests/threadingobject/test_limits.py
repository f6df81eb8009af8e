"""Arguments that ``threading`` refuses are refused with the same error."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from concoord_ray.threadingobject.limits import lock_timeout_s, semaphore_timeout_s


def outcome(code: Any) -> Any:
    """The type of the error that a call raises, None if it raises none."""
    try:
        code()
    except Exception as error:
        return type(error)
    return None


ARGUMENTS: list[tuple[Any, ...]] = [
    (),
    (True,),
    (False,),
    (True, 0),
    (True, 0.01),
    (True, -1),
    (True, -1.0),
    (True, -0.5),
    (True, -2),
    (False, -1),
    (False, 0),
    (False, 1),
    (True, "1"),
    (True, 1e100),
    (True, float("inf")),
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=repr)
def test_a_lock_takes_what_threadings_lock_takes(arguments: tuple[Any, ...]) -> None:
    ours = outcome(lambda: lock_timeout_s(*padded(arguments, -1)))
    assert ours is outcome(lambda: threading.Lock().acquire(*arguments))


@pytest.mark.parametrize("arguments", [*ARGUMENTS, (True, None), (False, None)], ids=repr)
def test_a_semaphore_takes_what_threadings_semaphore_takes(arguments: tuple[Any, ...]) -> None:
    if arguments == (True, "1"):
        pytest.skip("threading.Semaphore looks at the timeout only when it has to wait")
    ours = outcome(lambda: semaphore_timeout_s(*padded(arguments, None)))
    theirs = outcome(lambda: threading.Semaphore().acquire(*arguments))
    if arguments and arguments[-1] in (1e100, float("inf")):
        theirs = OverflowError  # As it is when threading.Semaphore has to wait.
    assert ours is theirs


def padded(arguments: tuple[Any, ...], timeout: Any) -> tuple[Any, Any]:
    """Both arguments, the missing ones with their defaults."""
    defaults = (True, timeout)
    both = arguments + defaults[len(arguments) :]
    return both[0], both[1]


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [((True, -1), None), ((True, 0), 0), ((True, 2.5), 2.5), ((False, -1), 0)],
)
def test_how_long_a_lock_may_wait(arguments: tuple[bool, float], seconds: float | None) -> None:
    assert lock_timeout_s(*arguments) == seconds


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [((True, None), None), ((True, 0), 0), ((True, -3), 0), ((True, 2.5), 2.5), ((False, None), 0)],
)
def test_how_long_a_semaphore_may_wait(arguments: tuple[bool, float | None], seconds: float | None) -> None:
    assert semaphore_timeout_s(*arguments) == seconds
