"""Every error that concoord_ray raises by itself. The message of each says what to do next.

What a replicated method raises is not in this list: it reaches the caller as the type that was raised. A barrier raises
``threading``'s own BrokenBarrierError.
"""

from __future__ import annotations

from threading import BrokenBarrierError as BrokenBarrierError  # noqa: PLC0414  # Given on, as its own name.


class ConcoordError(Exception):
    """Root of all errors that come from concoord_ray rather than from a replicated method."""


class ConfigurationError(ConcoordError):
    """The ensemble, the decorated class or the process is set up in a way that cannot work. Retrying does not help."""


class NoSuchObject(ConcoordError, LookupError):
    """No object of that name or id exists in the ensemble (any more)."""


class ObjectExists(ConcoordError):
    """An object of that name exists already; ``get_if_exists=True`` attaches to it instead, if it is of that class."""


class NotDeterministic(ConcoordError):
    """A replicated method would not give the same result on every replica."""


class SessionExpired(ConcoordError):
    """This process was silent for longer than the session TTL; its calls there did not run, or wait no more.

    What it held was released. The next call opens a new session.
    """


class OutcomeUnknown(ConcoordError):
    """The call may or may not have been applied, or may yet be. Look at the object before a retry."""


class QuorumLost(ConcoordError):
    """No leader was found, and the call was not proposed: the message says why. Safe to retry once there is one."""


class Overloaded(ConcoordError):
    """A bound of the ensemble, its gateway or this process is reached. The call was not executed: safe to retry later.

    Calls that can wait have waited before it is raised. Of a method of yours that waits, what it did before it had to
    wait is done: let waiting be the first that it does.
    """


class CallCancelled(ConcoordError):
    """The call was withdrawn. If it waited already, what its method did before that is done."""


class CallTimeout(ConcoordError, TimeoutError):
    """No answer within the ``timeout`` given to ``.options(timeout=...)``. The call was withdrawn.

    Safe to retry if it had not run, or if all that its method does is wait, as ``acquire``. What a method did before it
    began to wait is done: ``Condition.wait`` has given its lock up. The message says which.
    """


class Unauthorized(ConcoordError):
    """A peer could not prove that it knows the ensemble's secret."""


class FrameTooLarge(ConcoordError):
    """An argument, result or message is larger than ``max_frame_bytes``. Nothing was sent."""


class ProtocolViolation(ConcoordError):
    """A peer sent bytes that are not a frame of this protocol; the connection was closed."""


class Diverged(ConcoordError):
    """A replica's own state broke a rule that holds by construction. It stopped rather than answer wrongly."""


class StorageError(ConcoordError):
    """A data directory cannot be used: another process has it, or it belongs to another member or Python version."""


class StorageBusy(StorageError):
    """Another process has the data directory."""


class StorageCorrupt(StorageError):
    """Data on disk are not what was written, or some of it is gone. None of it is served.

    Set it aside and come back as a new member: the rest of the ensemble has what was lost.
    """


class StorageFailed(StorageError):
    """The disk did not take a write (full, failing, not allowed). What was acknowledged before is safe.

    Nothing is written any more in this life, because after a failed fsync the kernel may report success for data that
    it has dropped. Mend the disk and start again.
    """
