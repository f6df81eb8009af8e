"""What a primitive tells people with a stuck job: who holds it, since when, and who waits, for how long."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from concoord_ray.rsm.context import Owner, current
from concoord_ray.rsm.waiters import Waiter


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds something: ``process`` is its pid and host, ``owner`` its thread or task there."""

    process: str
    session: int
    owner: str
    #: For how many seconds it has held it.
    for_s: float
    #: The fencing token of its grant, if there is one.
    token: int | None = None
    #: How many levels of an RLock.
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Waiting:
    """Who waits, and for how many seconds it has."""

    process: str
    session: int
    owner: str
    for_s: float


@dataclass(frozen=True, slots=True)
class Inspection:
    """A primitive at one moment. Those who wait are in the order in which it is their turn."""

    #: Its repr.
    primitive: str
    holders: tuple[Holder, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    #: Those who await the loss of the present grant.
    awaiting_loss: tuple[Waiting, ...] = ()


def holder(owner: Owner, since_ns: int, token: int | None = None, depth: int = 1) -> Holder:
    """A holder, as of now."""
    effects = current().effects
    for_s = (effects.time_ns - since_ns) / 1e9
    return Holder(effects.describe(owner.session), owner.session, owner.name, for_s, token, depth)


def waiting(waiters: Iterable[Waiter]) -> tuple[Waiting, ...]:
    """Those who wait, as of now."""
    effects = current().effects
    return tuple(
        Waiting(effects.describe(w.session), w.session, w.owner.name, (effects.time_ns - w.parked_at_ns) / 1e9)
        for w in waiters
    )
