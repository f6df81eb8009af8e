"""A client process on a simulated host: the production ``Session`` and a courier, with many calls under way at once.

Mirrors ``roles.caller``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from concoord_ray.answers import is_refused_as, unpack
from concoord_ray.errors import CallTimeout, SessionExpired
from concoord_ray.paxos.view import Member
from concoord_ray.roles.calls import PendingCall
from concoord_ray.rsm.command import Call, Cancel, CloseSession, Command, Entry, Outcome, Read, Reply, Request
from concoord_ray.session import Ending, Failed, Session
from tests.sim.follower import FollowerShell, GatewayShell
from tests.sim.host import Host
from tests.sim.invariants import Watch
from tests.sim.network import Network
from tests.sim.scenario import Scenario


class SimulatedCall(PendingCall):
    """A call whose end is told to ``done``."""

    __slots__ = ("_done", "is_abandoned")

    def __init__(self, command: Command, readonly: bool, done: Callable[[Ending], None]) -> None:
        super().__init__(command, readonly)
        self._done = done
        #: Cancelled by a caller who does not wait for what comes of it.
        self.is_abandoned = False

    def end(self, ending: Ending) -> None:
        super().end(ending)
        self._done(ending)


class ClientShell(FollowerShell):
    """One life of one client process. Some of its calls go through a gateway, if it has one."""

    def __init__(
        self, me: Member, host: Host, network: Network, watch: Watch, scenario: Scenario, rng: random.Random
    ) -> None:
        super().__init__(me, host, network, scenario)
        self._watch = watch
        self._rng = rng
        self._gateway: GatewayShell | None = None
        self._at_gateway: dict[tuple[int, int], Request | Read] = {}
        self._session: Session | None = None
        self._calls: dict[tuple[int, int], PendingCall] = {}
        self._unnumbered: dict[PendingCall, None] = {}
        self._withdrawing: dict[tuple[int, int], int] = {}

    @property
    def unanswered(self) -> int:
        """How many calls have not ended."""
        return len(self._calls) + len(self._unnumbered)

    def use_gateway(self, gateway: GatewayShell) -> None:
        """A life of the gateway has begun. What the one before it has not answered is called again, as Ray does."""
        self._gateway = gateway
        for message in list(self._at_gateway.values()):
            self._call_gateway(gateway, message)

    @property
    def session_id(self) -> int | None:
        """The session that it is in."""
        return None if self._session is None else self._session.id

    @property
    def withdrawal_grace_s(self) -> float:
        """How long a caller whose time is over waits for its withdrawal to be confirmed."""
        return self._config.withdrawal_grace_s

    # Calls.

    def begin(self, call: PendingCall) -> None:
        """Send a call, as soon as there is a session."""
        session = self._session
        if session is None or session.id is None:
            self._unnumbered[call] = None
            self._open()
        else:
            gateway = self._gateway if isinstance(call.command, Call) and self._rng.random() < 0.5 else None
            call.entry = session.entry(call.command, readonly=call.readonly, travels=gateway is not None)
            self._calls[call.entry.session, call.entry.seq] = call
            message = Read(call.entry) if call.readonly else Request(call.entry)
            if gateway is not None:
                self._at_gateway[call.entry.session, call.entry.seq] = message
                self._call_gateway(gateway, message)
            else:
                self.courier.submit(message, self.host.clock.now())
        self.perform()

    def time_out(self, call: PendingCall) -> None:
        """The call's time is over: it ends with CallTimeout unless its result comes first."""
        self._withdraw(call, timed_out=True)

    def cancel(self, call: PendingCall) -> None:
        """Nobody waits for the call any more: see that it has no effect that nobody knows of."""
        self._withdraw(call, timed_out=False)

    def _withdraw(self, call: PendingCall, *, timed_out: bool) -> None:
        if call in self._unnumbered:
            del self._unnumbered[call]
            call.end(Failed(0, 0, CallTimeout("its time was over before it was sent")))
            return
        entry, session = call.entry, self._session
        if entry is None or call.ending is not None or session is None or session.id != entry.session:
            return
        if call.readonly:
            self.courier.forget(entry.session, entry.seq)
            self._at_gateway.pop((entry.session, entry.seq), None)
            self.ended(Failed(entry.session, entry.seq, CallTimeout("its time was over")))
            return
        if (entry.session, entry.seq) not in self._at_gateway and self.courier.take_back(entry.session, entry.seq):
            self.ended(Failed(entry.session, entry.seq, CallTimeout("its time was over before it was sent")))
            return
        self._withdraw_entry(entry, timed_out=timed_out)

    def _withdraw_entry(self, entry: Entry, *, timed_out: bool) -> None:
        session, key = self._session, (entry.session, entry.seq)
        if session is None or session.id != entry.session:
            return

        def ended(ending: Ending) -> None:
            self._withdrawing[key] -= 1
            if self._withdrawing[key] == 0:
                del self._withdrawing[key]
            if isinstance(ending, Failed):
                self._withdraw_entry(entry, timed_out=timed_out)
            else:
                self._acknowledge(entry)

        self._withdrawing[key] = self._withdrawing.get(key, 0) + 1
        self.begin(SimulatedCall(Cancel(entry.seq, timed_out), False, ended))

    def _acknowledge(self, entry: Entry) -> None:
        session, key = self._session, (entry.session, entry.seq)
        is_over = key not in self._withdrawing and key not in self._calls
        if session is not None and session.id == entry.session and is_over:
            session.acknowledge(entry.seq, self.host.clock.now())

    def close(self, done: Callable[[Ending], None]) -> bool:
        """End the session; the next call opens another. False if there is none."""
        session = self._session
        if session is None or session.id is None:
            return False

        def closed(ending: Ending) -> None:
            if self._session is session:
                self._session = None
            done(ending)

        self.begin(SimulatedCall(CloseSession(), False, closed))
        return True

    # Inside.

    def _open(self) -> None:
        if self._session is None:
            now_s = self.host.clock.now()
            nonce = self._rng.getrandbits(62) + 1
            self._session = Session(self.courier, self._config, nonce=nonce, description=str(self.me), now_s=now_s)
            self._session.open(now_s)

    def _call_gateway(self, gateway: GatewayShell, message: Request | Read) -> None:
        life, key = self.host.life, (message.entry.session, message.entry.seq)

        def back(ending: Ending) -> None:
            if self._at_gateway.pop(key, None) is not None:
                self.ended(ending)
                self.perform()

        gateway.submit(message, lambda ending: self._dispatch(life, lambda: back(ending)))

    def _dispatch(self, life: int, step: Callable[[], None]) -> None:
        if self.host.life == life:
            self.host.dispatch(step)

    def ended(self, ending: Ending) -> None:
        session = self._session
        if session is not None and session.is_opening(ending):
            self._opened(session, ending)
            return
        if isinstance(ending, Reply) and ending.seq > 0 and ending.outcome is not Outcome.REFUSED:
            self._watch.once.received((ending.session, ending.seq), ending.payload)
        call = self._calls.pop((ending.session, ending.seq), None)
        if session is not None and session.id == ending.session:
            if is_refused_as(ending, SessionExpired):
                self._session = None
            elif call is not None and call.entry is not None and not call.readonly:
                self._acknowledge(call.entry)
        if call is not None:
            call.end(ending)

    def _opened(self, session: Session, ending: Ending) -> None:
        waiting, self._unnumbered = list(self._unnumbered), {}
        if isinstance(ending, Failed):
            self._session = None
            for call in waiting:
                call.end(Failed(0, 0, ending.error))
            return
        session_id: Any = unpack(ending)
        session.opened(session_id)
        for call in waiting:
            self.begin(call)

    def tick(self, now_s: float) -> None:
        if self._session is not None:
            self._session.tick(now_s)
