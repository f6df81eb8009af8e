"""Timeouts as ``threading`` takes them: which are refused, and with which error."""

from __future__ import annotations

#: ``threading.TIMEOUT_MAX`` of 64-bit Linux; a constant of ours, since replicas must agree on it.
TIMEOUT_MAX_S = 9223372036.0


def lock_timeout_s(blocking: bool, timeout: float) -> float | None:
    """The waiting time that a lock's ``acquire(blocking, timeout)`` allows; None is forever, 0 is not at all."""
    if not blocking:
        if timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        return 0.0
    if timeout == -1:
        return None
    if timeout < 0:
        raise ValueError("timeout value must be a non-negative number")
    return _bounded(timeout)


def semaphore_timeout_s(blocking: bool, timeout: float | None) -> float | None:
    """The waiting time that a semaphore's ``acquire(blocking, timeout)`` allows; None is forever, 0 is not at all."""
    if not blocking:
        if timeout is not None:
            raise ValueError("can't specify timeout for non-blocking acquire")
        return 0.0
    return None if timeout is None else _bounded(max(0.0, timeout))


def wait_timeout_s(timeout: float | None) -> float | None:
    """The waiting time that ``wait(timeout)`` of a condition, event or barrier allows; None is forever."""
    return None if timeout is None else _bounded(max(0.0, timeout))


def _bounded(timeout: float) -> float:
    if timeout > TIMEOUT_MAX_S:
        raise OverflowError("timeout value is too large")
    return timeout
