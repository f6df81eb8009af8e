"""What a call is told that is withdrawn."""

from __future__ import annotations

from concoord_ray.errors import CallCancelled, CallTimeout
from concoord_ray.rsm.guards import has_run
from concoord_ray.rsm.objects import refuse
from concoord_ray.rsm.sessions import Answer
from concoord_ray.rsm.waiters import Waiter

_CANCELLED = CallCancelled(
    "The call was cancelled: it did not run, or waits no more, or what it was granted was given back. What its method "
    "did before it began to wait is done."
)
_TASK_ENDED = CallCancelled("The Ray task that made this call has ended; the call was withdrawn.")
_TIMED_OUT = CallTimeout("The call's own timeout was over; it was withdrawn, and had no effect: a retry is safe.")
_WAITS_NO_MORE = CallTimeout(
    "The call's own timeout was over; it waits no more. What its method did before it began to wait is done: "
    "Condition.wait has given its lock up. A retry is safe if the method only waits, as acquire does. To have the lock "
    "again when the time is over, give the time to the method: wait(timeout=...)."
)


def cancelled() -> Answer:
    """Of one whose caller has no more interest in it."""
    return refuse(_CANCELLED)


def task_ended() -> Answer:
    """Of one whose Ray task has ended."""
    return refuse(_TASK_ENDED)


def timed_out(waiter: Waiter | None) -> Answer:
    """Of one whose own time is over; ``waiter`` if it waits."""
    return refuse(_WAITS_NO_MORE if waiter is not None and has_run(waiter) else _TIMED_OUT)
