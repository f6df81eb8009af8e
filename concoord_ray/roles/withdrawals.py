"""Calls of one process that are withdrawn, or will be when their own timeout is over.

Runs on the client's loop. A withdrawal goes on until the ensemble has said what it found, however long that takes and
whatever the caller was told meanwhile: a call that nobody waits for any more must not be granted anything for good.

Invariant: while an entry is being withdrawn it is not acknowledged, and one that travels through a gateway not before
its caller is known to have its answer: a grant that is acknowledged cannot be taken back.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from concoord_ray.roles.calls import PendingCall, Withdrawal
from concoord_ray.roles.fail_stop import FailStop
from concoord_ray.rsm.command import Cancel, Entry
from concoord_ray.session import Ending, Failed

Key = tuple[int, int]


class WithdrawalsOwner(Protocol):
    """Who makes the calls."""

    def begin(self, call: PendingCall) -> None:
        """Send a call."""

    def is_of_session(self, entry: Entry) -> bool:
        """Whether the entry is of the session that there is. That of another has come to its end."""

    def acknowledge(self, entries: list[Entry]) -> None:
        """Nobody will ask for the answers to these again."""

    def perform(self) -> None:
        """Send what was begun."""


class Withdrawals:
    """Those under way, and the timeouts of what travels through a gateway."""

    def __init__(self, owner: WithdrawalsOwner, fail_stop: FailStop) -> None:
        self._owner = owner
        self._fail_stop = fail_stop
        #: How many of each entry are under way.
        self._under_way: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        #: Withdrawn at their timeout, and their callers' refs have not ended as far as we know.
        self._unseen: set[Key] = set()

    def begin(self, entry: Entry, *, timed_out: bool) -> None:
        """Withdraw an entry, and acknowledge it when that is done."""
        key = (entry.session, entry.seq)
        if not self._owner.is_of_session(entry):
            return

        def ended(ending: Ending) -> None:
            self._under_way[key] -= 1
            if self._under_way[key] == 0:
                del self._under_way[key]
            if isinstance(ending, Failed):  # Given up for want of a leader. What is withdrawn must not be granted.
                self.begin(entry, timed_out=timed_out)
            elif key not in self._unseen:
                self._owner.acknowledge([entry])

        self._under_way[key] = self._under_way.get(key, 0) + 1
        self._owner.begin(Withdrawal(Cancel(entry.seq, timed_out), ended))

    def begin_after(self, entry: Entry, timeout_s: float) -> None:
        """Withdraw an entry that travels through a gateway, unless its caller has seen its end by then."""
        key = (entry.session, entry.seq)

        def due() -> None:
            del self._timers[key]
            self._unseen.add(key)
            self.begin(entry, timed_out=True)
            self._owner.perform()

        self._timers[key] = asyncio.get_running_loop().call_later(timeout_s, self._fail_stop.step, due)

    def seen(self, entry: Entry) -> bool:
        """Its caller has seen its end: withdraw it no more by itself. False if it must not be acknowledged yet."""
        key = (entry.session, entry.seq)
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._unseen.discard(key)
        return key not in self._under_way
