"""The client's side of exactly once: request numbers, leader tracking, retry, keepalive. The one place that retries.

Pure: ``client`` (a process's own connection) and ``roles.gateway`` step it and carry its messages.

- A ``Courier`` holds every unanswered message and sends it, unchanged, to each new leader (``leadership``) until its
  reply comes.
- A ``Session`` numbers the commands of one process, says which replies it has, and keeps its lease. Acknowledgements
  travel with what its own courier carries, which is re-sent until it is answered; those of an entry that was given up
  travel with another. So none is lost. What goes through a gateway carries none: it may never get there.

What ``Courier`` gives up on after ``quorum_timeout_s`` without a leader is told apart: a call that no leader was ever
sent fails with ``QuorumLost`` and may be retried; any other with ``OutcomeUnknown``.

A leader that has too much to do says ``Busy``. What it did not take waits here, in the order of its submission and with
what was submitted after it, and is offered again: one for each reply that comes, and every ``retransmit_interval_s`` as
many as it may take at once, which doubles while it takes them all and is halved when it does not. Only when it answers
nothing for ``quorum_timeout_s`` a call ends, with ``Overloaded``.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Union

from concoord_ray.config import Config
from concoord_ray.errors import ConcoordError, FrameTooLarge, OutcomeUnknown, Overloaded, QuorumLost
from concoord_ray.leadership import Absence, Leadership
from concoord_ray.rsm.command import (
    Acknowledge,
    Busy,
    Command,
    Entry,
    KeepAlive,
    Kept,
    Leading,
    NotLeader,
    OpenSession,
    Read,
    Reply,
    Request,
    ServiceMessage,
)
from concoord_ray.rsm.sessions import Intervals
from concoord_ray.rsm.wire import encode_message

Key = tuple[int, int]
Acks = tuple[tuple[int, int], ...]


class ToReplica(NamedTuple):
    """One message for the replica at an index."""

    replica: int
    message: ServiceMessage


class Failed(NamedTuple):
    """A call that was given up."""

    session: int
    seq: int
    error: ConcoordError


Ending = Union[Reply, Failed]


@dataclass(slots=True)
class _Pending:
    message: Request | Read
    since_s: float
    #: Its place among all messages.
    order: int
    #: How often it was sent, without those times when it was told not to be taken.
    sent: int = 0
    is_waiting: bool = False

    @property
    def may_have_run(self) -> bool:
        return self.sent > 0 and isinstance(self.message, Request)


#: How many of those that a busy leader did not take are offered again at first.
_FIRST_OFFER = 16


class Courier:
    """Carries requests to whoever leads. ``outbox`` and ``endings`` are for the owner to take after every step."""

    def __init__(self, config: Config, now_s: float, unreachable: Callable[[], Absence] | None = None) -> None:
        """``unreachable`` says why there is no connection to any replica."""
        self.outbox: list[ToReplica] = []
        self.endings: list[Ending] = []
        #: The replica that everything is sent to, None if none leads.
        self.leader: int | None = None
        self._config = config
        self._leadership = Leadership(config, now_s, unreachable)
        self._pending: dict[Key, _Pending] = {}
        self._orders = 0
        #: What a busy leader has not taken, and what was submitted after it, as (order, key).
        self._waiting: list[tuple[int, Key]] = []
        self._offer = _FIRST_OFFER
        self._offer_at_s = now_s
        self._was_refused = False
        #: The acknowledgements of entries that were given up, with their sessions.
        self._unheard: list[tuple[int, Acks]] = []
        #: Since when the leader has answered nothing but that it is busy.
        self._busy_since_s: float | None = None

    @property
    def unanswered(self) -> int:
        """How many messages are not answered."""
        return len(self._pending)

    def leaderless_s(self, now_s: float) -> float:
        """For how many seconds no replica has led, as far as we know; 0 if one does."""
        return self._leadership.leaderless_s(now_s)

    def absence(self) -> Absence:
        """Why there is no leader."""
        return self._leadership.absence()

    def submit(self, message: Request | Read, now_s: float, *, was_sent: bool = False) -> None:
        """Send a message until it is answered. ``was_sent`` says that somebody before us may have sent it already.

        One that is under way already begins anew, but for that it was sent.
        """
        size_bytes = len(message.entry.command)
        if size_bytes > self._config.max_payload_bytes:
            text = (
                f"The arguments have {size_bytes} bytes, at most {self._config.max_payload_bytes} fit; nothing was "
                f"sent. Pass large data by reference, as a path or a key, or start the ensemble with a larger "
                f"max_frame_bytes."
            )
            self._drop(message.entry)
            self.endings.append(Failed(message.entry.session, message.entry.seq, FrameTooLarge(text)))
            return
        self._orders += 1
        key = message.entry.session, message.entry.seq
        pending = _Pending(message, now_s, self._orders, sent=int(was_sent))
        before = self._pending.get(key)
        if before is not None:
            pending.sent += before.sent
        self._pending[key] = pending
        if self._waiting:
            self._wait(key, pending)
        else:
            self._send(pending)

    def may_have_run(self, session: int, seq: int) -> bool:
        """Whether some leader was sent this request."""
        pending = self._pending.get((session, seq))
        return pending is not None and pending.may_have_run

    def take_back(self, session: int, seq: int) -> bool:
        """Forget a message that no leader was sent, or took: it has and will have no effect. False if one may have."""
        pending = self._pending.get((session, seq))
        if pending is None or pending.sent:
            return False
        self.forget(session, seq)
        return True

    def forget(self, session: int, seq: int) -> None:
        """Nobody waits for this reply any more."""
        pending = self._pending.pop((session, seq), None)
        if pending is not None:
            self._drop(pending.message.entry)

    def take_unheard(self, session: int) -> list[Acks]:
        """The acknowledgements that were carried by entries that were given up: they may not have reached the log."""
        unheard, self._unheard = self._unheard, []
        return [acks for owner, acks in unheard if owner == session]

    def _drop(self, entry: Entry) -> None:
        if entry.acks:
            self._unheard.append((entry.session, entry.acks))

    def receive(self, index: int, message: ServiceMessage, now_s: float) -> None:
        """Step with a message from the replica at ``index``."""
        if isinstance(message, Reply):
            if self._pending.pop((message.session, message.seq), None) is not None:
                self.endings.append(message)
                self._busy_since_s = None
                if self._waiting:
                    self._send_waiting(1)
        elif isinstance(message, Leading):
            self._leadership.leads(index, now_s)
        elif isinstance(message, NotLeader):
            self._leadership.follows(index, message.leader, now_s, has_quorum=message.has_quorum)
        elif isinstance(message, Busy):
            self._refused((message.session, message.seq), now_s)
        if isinstance(message, Kept):
            self._leadership.keeps(index, now_s)
        else:
            self._leadership.heard(index, now_s)
        self._follow()

    def connected(self, index: int, now_s: float) -> None:
        """There is a new connection to the replica at ``index``, which says at once whether it leads."""
        self._leadership.connected(index, now_s)
        self._follow()

    def disconnected(self, index: int, now_s: float) -> None:
        """The connection to the replica at ``index`` was closed."""
        self._leadership.gone(index, now_s)
        self._follow()

    def tick(self, now_s: float) -> None:
        """Step with the passing of time."""
        for asked in self._leadership.tick(now_s, is_awaited=bool(self._pending)):
            self.outbox.append(ToReplica(asked, KeepAlive(0, int(now_s * 1e9))))
        self._follow()
        if self.leader is not None:
            self._offer_again(now_s)
        elif self._pending and self.leaderless_s(now_s) > self._config.quorum_timeout_s:
            patience = now_s - self._config.quorum_timeout_s
            for key, pending in list(self._pending.items()):
                if pending.since_s <= patience:
                    self.forget(*key)
                    self.endings.append(Failed(*key, self._no_leader(pending)))

    # A busy leader.

    def _refused(self, key: Key, now_s: float) -> None:
        pending = self._pending.get(key)
        if pending is None:
            return
        pending.sent = max(0, pending.sent - 1)
        if self._busy_since_s is None:
            self._busy_since_s = now_s
        if not self._waiting:
            self._offer_at_s = now_s + self._config.retransmit_interval_s
        self._was_refused = True
        self._wait(key, pending)

    def _wait(self, key: Key, pending: _Pending) -> None:
        if not pending.is_waiting:
            pending.is_waiting = True
            heapq.heappush(self._waiting, (pending.order, key))

    def _offer_again(self, now_s: float) -> None:
        if not self._waiting:
            return
        patience = now_s - self._config.quorum_timeout_s
        if self._busy_since_s is not None and self._busy_since_s <= patience:
            self._give_up(patience)
        if now_s >= self._offer_at_s:
            self._offer_at_s = now_s + self._config.retransmit_interval_s
            self._offer = max(1, self._offer // 2) if self._was_refused else self._offer * 2
            self._was_refused = False
            self._send_waiting(self._offer)

    def _send_waiting(self, count: int) -> None:
        while self._waiting and count > 0:
            _, key = heapq.heappop(self._waiting)
            pending = self._pending.get(key)
            if pending is not None and pending.is_waiting:
                pending.is_waiting = False
                self._send(pending)
                count -= 1
        if not self._waiting:
            self._offer = _FIRST_OFFER

    def _give_up(self, patience: float) -> None:
        """The leader takes nothing: a replica may hold up the log, or user code the leader."""
        text = (
            f"The leader has been too busy to take this call for {self._config.quorum_timeout_s:.0f} s. "
            f"concoord.status() says what it executes, and which replica is behind."
        )
        waiting, self._waiting = self._waiting, []
        for order, key in waiting:
            pending = self._pending.get(key)
            if pending is None or pending.since_s > patience:
                self._waiting.append((order, key))
                continue
            self.forget(*key)
            error: ConcoordError = Overloaded(f"{text} It was not executed; retry later.")
            if pending.may_have_run:
                error = OutcomeUnknown(f"{text} One before it may have executed it: look at the object before a retry.")
            self.endings.append(Failed(*key, error))
        heapq.heapify(self._waiting)

    # The leader.

    def _send(self, pending: _Pending) -> None:
        if self.leader is not None:
            pending.sent += 1
            self.outbox.append(ToReplica(self.leader, pending.message))

    def _follow(self) -> None:
        """Send what is unanswered to whoever leads, if that is another one than before."""
        if self._leadership.leader == self.leader:
            return
        self.leader = self._leadership.leader
        self._waiting.clear()
        self._busy_since_s = None
        for pending in self._pending.values():
            pending.is_waiting = False
            self._send(pending)

    def _no_leader(self, pending: _Pending) -> ConcoordError:
        reason, advice = self.absence()
        waited = f"No leader was found for {self._config.quorum_timeout_s:.0f} s: {reason}."
        if pending.may_have_run:
            return OutcomeUnknown(
                f"{waited} The last leader may or may not have executed this call, or may yet. Look at "
                f"concoord.status(), and at the object itself before a retry."
            )
        return QuorumLost(f"{waited} The call was not proposed. {advice}")


class Session:
    """One process's identity in one ensemble. ``id`` is None until the log has opened it."""

    def __init__(self, courier: Courier, config: Config, *, nonce: int, description: str, now_s: float) -> None:
        self.id: int | None = None
        self._courier = courier
        self._config = config
        self._nonce = nonce
        self._description = description
        self._next_seq = 1
        self._next_read = 0
        self._unacknowledged = Intervals()
        self._acknowledge_at_s: float | None = None
        self._keep_alive_at_s = now_s
        self._keep_alive_interval_s = config.session_ttl_s / 10
        #: The lease was renewed after this moment.
        self._kept_at_s = now_s

    def open(self, now_s: float) -> None:
        """Ask for the session; its number comes with the reply to (0, nonce), for ``opened``.

        The lease is longer than the TTL by the interval of keepalives: who is silent for no longer than the TTL, if
        only because it holds up its own interpreter, keeps what it has, whenever in that interval it fell silent.
        """
        lease_s = self._config.session_ttl_s + self._keep_alive_interval_s
        opening = OpenSession(int(lease_s * 1e9), self._description)
        self._kept_at_s = now_s
        self._courier.submit(Request(Entry(0, self._nonce, (), encode_message(opening))), now_s)

    def opened(self, session_id: int) -> None:
        """The log has opened the session."""
        self.id = session_id

    def is_opening(self, ending: Ending) -> bool:
        """Whether this ending is the reply to ``open``."""
        return ending.session == 0 and ending.seq == self._nonce

    def entry(self, command: Command, *, readonly: bool = False, travels: bool = False) -> Entry:
        """Number a command. The entry must be submitted to our courier, unless it ``travels`` through a gateway.

        Its reply must be acknowledged. Reads are numbered apart, downwards: they never enter the log, and would leave
        holes in what it acknowledges.
        """
        if self.id is None:
            raise RuntimeError("the session is not open yet")
        encoded = encode_message(command)  # What cannot be takes neither a number nor acknowledgements.
        if readonly:
            self._next_read -= 1
            return Entry(self.id, self._next_read, (), encoded)
        seq, self._next_seq = self._next_seq, self._next_seq + 1
        acks: Acks = () if travels else self._unacknowledged.ranges()
        if acks:
            self._unacknowledged = Intervals()
            self._acknowledge_at_s = None
        return Entry(self.id, seq, acks, encoded)

    def acknowledge(self, seq: int, now_s: float) -> None:
        """The process has the reply to ``seq``, or has given the call up for good."""
        self._add(seq, seq, now_s)

    def _add(self, first: int, last: int, now_s: float) -> None:
        self._unacknowledged.add(first, last)
        if self._acknowledge_at_s is None:
            self._acknowledge_at_s = now_s + self._config.acknowledge_interval_s

    def kept(self, message: Kept) -> None:
        """The leader has renewed the lease."""
        if message.session == self.id:
            self._kept_at_s = max(self._kept_at_s, message.sent_ns / 1e9)

    def may_be_lost(self, now_s: float) -> bool:
        """Whether the lease may be over, as far as this process knows: it was last renewed a TTL ago."""
        return self.id is not None and now_s - self._kept_at_s > self._config.session_ttl_s

    def tick(self, now_s: float) -> None:
        """Keep the lease, and say which replies arrived if no call has carried that along."""
        if self.id is None or self._courier.leader is None:
            return
        for acks in self._courier.take_unheard(self.id):
            for first, last in acks:
                self._add(first, last, now_s)
        if now_s >= self._keep_alive_at_s:
            self._keep_alive_at_s = now_s + self._keep_alive_interval_s
            self._courier.outbox.append(ToReplica(self._courier.leader, KeepAlive(self.id, int(now_s * 1e9))))
        if self._acknowledge_at_s is not None and now_s >= self._acknowledge_at_s:
            self._courier.submit(Request(self.entry(Acknowledge())), now_s)
