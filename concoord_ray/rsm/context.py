"""The call that is executing: what a replicated method may ask of its surroundings.

The executor enters a ``CallContext`` around every piece of user code. It is also the ``_concoord_command`` that
ConCoord's blocking objects take and pass on.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from concoord_ray.rsm.waiters import Effects


#: In an owner's name: what follows is the Ray task that it is part of.
IN_TASK = "@"


class Scope(NamedTuple):
    """What ends as one, and then gives back what it holds: one Ray task of a session, or (``task`` empty) the rest."""

    session: int
    task: str


class Owner(NamedTuple):
    """Who calls, as threads are told apart in ``threading``: a thread or asyncio task of one session."""

    session: int
    name: str

    @property
    def scope(self) -> Scope:
        """What it ends with."""
        return Scope(self.session, self.name.partition(IN_TASK)[2])


class CallContext:
    """One execution of one command. ``seq`` 0 is the ensemble itself, at work on a timer or an expiry."""

    __slots__ = ("effects", "object_id", "owner", "seq", "session")

    def __init__(self, effects: Effects, session: int, seq: int, owner: str, object_id: int) -> None:
        self.effects = effects
        self.session = session
        self.seq = seq
        self.owner = Owner(session, owner)
        self.object_id = object_id

    def __repr__(self) -> str:
        return f"<concoord command session={self.session:016x} seq={self.seq} object={self.object_id}>"


def now() -> float:
    """Wall time in seconds since the epoch, the same on every replica and never falling; for replicated methods."""
    return current().effects.wall_ns / 1e9


def random() -> Random:
    """A ``random.Random`` that draws the same numbers on every replica; for replicated methods."""
    return current().effects.random()


_current: list[CallContext] = []


def current() -> CallContext:
    """The executing call. Raises RuntimeError outside of replicated code."""
    if not _current:
        raise RuntimeError(
            "This works only inside a method of a replicated object: decorate the class with @concoord.replicated "
            "and call the method through its handle."
        )
    return _current[-1]


class entered:  # noqa: N801  # Used as a function, like contextlib's own.
    """Make ``context`` the current one.

    Not a generator with ``contextlib.contextmanager``: that sets the traceback of what is raised in it, by whatever
    ``__setattr__`` a class of users has.
    """

    __slots__ = ("_context",)

    def __init__(self, context: CallContext) -> None:
        self._context = context

    def __enter__(self) -> CallContext:
        """Until the block ends."""
        _current.append(self._context)
        return self._context

    def __exit__(self, *_: object) -> None:
        """Back to the one before."""
        _current.pop()
