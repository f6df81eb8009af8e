"""Calls of one process that are withdrawn, or will be when their own timeout is over.

Runs on the client's loop. A withdrawal goes on until the ensemble has said what it found, however long that takes and
whatever the caller was told meanwhile: a call that nobody waits for any more must not be granted anything for good.

Invariant: an entry is not acknowledged while it is being withdrawn, nor before its caller has its answer: a grant that
is acknowledged cannot be taken back. For what travels through a gateway, the end of the ref tells. Here, a caller may
be cancelled when the answer has come, and its own thread or event loop has not got to see it.
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
        #: Calls that have ended, and were not settled by their callers when we last looked.
        self._untaken: dict[Key, PendingCall] = {}

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

    def await_taker(self, call: PendingCall) -> None:
        """The call has ended: it is not acknowledged before its caller has what came of it."""
        if call.entry is not None:
            self._untaken[call.entry.session, call.entry.seq] = call

    def begin_untaken(self, call: PendingCall) -> None:
        """Nobody takes what came of the call: withdraw it, unless that can grant nothing."""
        if call.entry is not None and self._untaken.pop((call.entry.session, call.entry.seq), None) is not None:
            self.begin(call.entry, timed_out=False)

    def taken(self) -> list[Entry]:
        """What callers have taken since we last looked. Nobody is woken to tell us: it need not be known at once."""
        taken = [key for key, call in self._untaken.items() if call.is_settled]
        return [entry for key in taken if (entry := self._untaken.pop(key).entry) is not None]

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
        return key not in self._under_way and key not in self._untaken
