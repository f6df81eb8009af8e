"""The replicated state machine: decided batches in, replies out.

Deterministic: the same slots give the same state, the same replies and the same wake-ups on every replica. Nothing here
reads a clock, the address of an object, or the order of a set. Ensemble time moves only with a batch's stamp, and when
it has moved, every deadline that it passed is handled, in order, before the batch's own commands: a timeout is a logged
event with one outcome, and a permit that is free when a call arrives is granted however short its timeout was.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from concoord_ray.errors import (
    CallCancelled,
    CallTimeout,
    Diverged,
    NoSuchObject,
    ObjectExists,
    OutcomeUnknown,
    ProtocolViolation,
)
from concoord_ray.rsm.command import (
    Acknowledge,
    Batch,
    Call,
    Cancel,
    CloseSession,
    Command,
    Create,
    Delete,
    Entry,
    ExpireSession,
    ListObjects,
    Lookup,
    OpenSession,
    Outcome,
    Reply,
    Withdrawal,
)
from concoord_ray.rsm.context import CallContext, entered
from concoord_ray.rsm.objects import Kind, ObjectTable, raised, refuse, value
from concoord_ray.rsm.reads import ReadOnlyEffects
from concoord_ray.rsm.sessions import Answer, EndedSessions, Grant, Session
from concoord_ray.rsm.timers import Timers
from concoord_ray.rsm.waiters import PARKED, Primitive, Waiter
from concoord_ray.rsm.wire import decode_batch, decode_command

_CANCELLED = CallCancelled("The call was cancelled: it did not run, or what it was granted was given back.")
_TIMED_OUT = CallTimeout("The call's own timeout was over; it was withdrawn, and had no effect.")


@dataclass(slots=True)
class Applied:
    """What applying slots did, for the replica around the executor."""

    #: Every slot below this one is applied.
    next_slot: int = 0
    time_ns: int = 0
    #: When, in ensemble time, the next parked call times out; None if none will.
    next_deadline_ns: int | None = None
    replies: list[Reply] = field(default_factory=list)
    #: Sessions opened, with their leases, and ended.
    opened: list[tuple[int, int]] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)


class Executor:
    """The state of one ensemble at one slot. Implements ``waiters.Effects`` for the primitives inside its objects."""

    def __init__(self, ensemble: str, *, remembered_sessions: int = 10_000) -> None:
        self.time_ns = 0
        self.wall_ns = 0
        self.next_slot = 0
        self._ensemble = ensemble
        self._objects = ObjectTable(ensemble)
        self._sessions: dict[int, Session] = {}
        self._ended = EndedSessions(remembered_sessions)
        self._nonces: dict[int, int] = {}
        self._next_session = 1
        self._tokens = 0
        self._timers = Timers()
        self._parked = 0
        self._draws = 0
        self._grants: dict[tuple[int, int], Grant] = {}
        self._applied = Applied()

    # The log.

    def apply(self, slot: int, batch_value: bytes) -> None:
        """Execute one slot; ``take_applied`` tells what came of it."""
        self.apply_batch(slot, decode_batch(batch_value))

    def apply_batch(self, slot: int, batch: Batch) -> None:
        """Execute one slot whose value is decoded."""
        if slot != self.next_slot:
            raise Diverged(f"asked to execute slot {slot} when slot {self.next_slot} is next; this replica stops.")
        self._draws = 0
        self.time_ns = max(self.time_ns, batch.stamp_ns)
        self.wall_ns = max(self.wall_ns, batch.wall_ns)
        self._fire_timers()
        for entry in batch.entries:
            self._apply_entry(entry)
        self.next_slot = slot + 1

    def kinds_of(self, entries: Iterable[Entry]) -> frozenset[Kind]:
        """Which user code these entries would run."""
        return self._objects.kinds_of(entries)

    def take_applied(self) -> Applied:
        """What has been applied since the last call."""
        applied = self._applied
        applied.next_slot, applied.time_ns = self.next_slot, self.time_ns
        applied.next_deadline_ns = self._timers.next_deadline_ns()
        self._applied = Applied()
        return applied

    def _apply_entry(self, entry: Entry) -> None:
        session = self._sessions.get(entry.session)
        if session is not None:
            session.last_slot = self.next_slot
            self._acknowledge(session, entry.acks)
            if entry.seq in session.answers or entry.seq in session.parked:
                reply = session.reply(entry.seq)
                if reply is not None:
                    self._applied.replies.append(reply)
                return
        try:
            command = decode_command(entry.command)
        except msgspec.MsgspecError as error:
            self._reply(entry, session, refuse(ProtocolViolation(f"The command cannot be decoded: {error}")))
            return
        if isinstance(command, OpenSession) and entry.session == 0:
            self._open(entry, command)
        elif isinstance(command, ExpireSession) and entry.session == entry.seq == 0:
            self._expire(command)
        elif session is None:
            self._reply(entry, None, refuse(self._ended.error(entry.session, entry.seq)))
        elif entry.seq < 1:
            text = f"A session numbers its commands from 1; this one has the number {entry.seq}."
            self._applied.replies.append(_as_reply(entry, refuse(ProtocolViolation(text))))
        elif isinstance(command, Acknowledge):
            session.acknowledge(((entry.seq, entry.seq),))  # Its own reply carries nothing that could be missed.
            self._applied.replies.append(_as_reply(entry, value(None)))
        elif entry.seq in session.acknowledged:
            text = f"Call {entry.seq} was sent again after its reply had been acknowledged."
            self._applied.replies.append(_as_reply(entry, refuse(OutcomeUnknown(text))))
        else:
            answer = self._execute(session, entry, command)
            if answer is not None:
                self._reply(entry, session, answer)

    def _acknowledge(self, session: Session, acks: tuple[tuple[int, int], ...]) -> None:
        """The client has these replies, or gave these calls up: one that still waits would be granted to nobody."""
        session.acknowledge(acks)
        parked = session.parked
        for first, last in acks if parked else ():
            is_short = last - first < len(parked)
            for seq in [s for s in (range(first, last + 1) if is_short else parked) if first <= s <= last]:
                waiter = parked.get(seq)
                if waiter is None:
                    continue
                self._withdraw(session, waiter)
                given_up = refuse(_CANCELLED)
                self._applied.replies.append(Reply(session.id, waiter.seq, given_up.outcome, given_up.payload))

    def _execute(self, session: Session, entry: Entry, command: Command) -> Answer | None:
        """Execute one fresh command; None when its call is parked."""
        if isinstance(command, Call):
            context = CallContext(self, session.id, entry.seq, command.owner, command.object_id)
            result = self._objects.call(context, command)
            return self._finish(session, entry.seq, command.method, result)
        if isinstance(command, Create):
            return self._create(session, entry, command)
        if isinstance(command, Delete):
            return self._delete(command.object_id)
        if isinstance(command, Cancel):
            return value(int(self._cancel(session, command)))
        if isinstance(command, CloseSession):
            self._end(session)
            return value(None)
        return refuse(ProtocolViolation(f"{type(command).__name__} is not a command for the log."))

    def _finish(self, session: Session, seq: int, method: str, result: Any) -> Answer | None:
        waiter = session.parked.get(seq)
        if seq in session.answers:
            return None  # It parked, and then woke itself: that was its answer.
        if result is PARKED:
            if waiter is not None:
                return None
            return raised(RuntimeError(f"{method} returned PARKED, but nothing was parked by this call"))
        if waiter is not None:
            self._withdraw(session, waiter)
            if not isinstance(result, Answer):
                text = f"{method} must return what the blocking operation returned, since its caller has to wait"
                return raised(RuntimeError(text))
        return result if isinstance(result, Answer) else value(result)

    def _create(self, session: Session, entry: Entry, command: Create) -> Answer:
        existing = None if command.name is None else self._objects.find(command.name)
        if existing is not None:
            if command.get_if_exists:
                return value(existing)
            text = f"An object called {command.name!r} exists. Use get_if_exists=True to share it, or another name."
            return refuse(ObjectExists(text))
        context = CallContext(self, session.id, entry.seq, command.owner, 0)
        answer = self._objects.create(context, command)
        waiter = session.parked.get(entry.seq)
        if waiter is not None:
            self._withdraw(session, waiter)
            self._objects.delete(context.object_id)
            return raised(RuntimeError("a constructor cannot wait: the object that it waits in does not exist yet"))
        return answer

    def _delete(self, object_id: int) -> Answer:
        if not self._objects.delete(object_id):
            return refuse(NoSuchObject(f"The object with id {object_id} does not exist, or was deleted already."))
        gone = refuse(NoSuchObject("The object was deleted while this call waited in it."))
        for session in self._sessions.values():
            for waiter in [w for w in session.parked.values() if w.object_id == object_id]:
                self._withdraw(session, waiter)
                self._keep(session, waiter.seq, gone)
        return value(None)

    def _reply(self, entry: Entry, session: Session | None, answer: Answer) -> None:
        if session is not None and session.id in self._sessions and entry.seq:
            self._keep(session, entry.seq, answer)
        else:
            self._applied.replies.append(_as_reply(entry, answer))

    def _keep(self, session: Session, seq: int, answer: Answer) -> None:
        grant = self._grants.pop((session.id, seq), None)
        session.answers[seq] = answer._replace(grant=grant) if grant is not None else answer
        self._applied.replies.append(Reply(session.id, seq, answer.outcome, answer.payload))

    # Sessions.

    def _open(self, entry: Entry, command: OpenSession) -> None:
        session_id = self._nonces.get(entry.seq)
        if session_id is None:
            session_id = self._next_session
            self._next_session += 1
            session = Session(session_id, entry.seq, command.ttl_ns, command.description)
            session.last_slot = self.next_slot
            self._sessions[session_id] = session
            self._nonces[entry.seq] = session_id
            self._applied.opened.append((session_id, command.ttl_ns))
        self._applied.replies.append(_as_reply(entry, value(session_id)))

    def _expire(self, command: ExpireSession) -> None:
        session = self._sessions.get(command.session)
        if session is not None and session.last_slot <= command.seen_slot:
            self._end(session)

    def _end(self, session: Session) -> None:
        """Nothing of the session may be granted any more before what it held is given to others."""
        self._ended.add(session)
        for waiter in list(session.parked.values()):
            self._withdraw(session, waiter)
            expired = refuse(self._ended.error(session.id, waiter.seq))
            self._applied.replies.append(Reply(session.id, waiter.seq, expired.outcome, expired.payload))
        with entered(self._own_context()):
            for primitive in list(session.holdings):
                primitive.release_session(session.id)
        del self._sessions[session.id]
        del self._nonces[session.nonce]
        self._applied.ended.append(session.id)

    def _cancel(self, session: Session, command: Cancel) -> Withdrawal:
        seq = command.seq
        cancelled = refuse(_TIMED_OUT if command.timed_out else _CANCELLED)
        waiter = session.parked.get(seq)
        if waiter is not None:
            self._withdraw(session, waiter)
            self._keep(session, seq, cancelled)
            return Withdrawal.WITHDRAWN
        answer = session.answers.get(seq)
        if answer is not None and answer.grant is not None and not command.timed_out:
            with entered(self._own_context()):
                answer.grant.primitive.give_back(answer.grant.detail)
            self._keep(session, seq, cancelled)
            return Withdrawal.GIVEN_BACK
        if answer is None and seq not in session.acknowledged:
            self._keep(session, seq, cancelled)  # A tombstone: if the call is still on its way, it will not run.
            return Withdrawal.WITHDRAWN
        return Withdrawal.APPLIED

    def _withdraw(self, session: Session, waiter: Waiter) -> None:
        """Take a waiter out of its queue for good; the caller says what its call is told."""
        self._unpark(session, waiter.seq)
        waiter.queue.remove(waiter)
        with entered(self._own_context()):
            waiter.primitive.gone(waiter)

    def _unpark(self, session: Session, seq: int) -> None:
        session.parked.pop(seq).deadline_ns = None
        self._parked -= 1

    def _own_context(self) -> CallContext:
        return CallContext(self, 0, 0, "", 0)

    # Timers.

    def _fire_timers(self) -> None:
        while (waiter := self._timers.pop_due(self.time_ns)) is not None:
            waiter.queue.remove(waiter)
            with entered(self._own_context()):
                result = waiter.primitive.timed_out(waiter)
                if result is not PARKED:
                    self.answer(waiter, result)

    # Reads.

    def read(self, entry: Entry) -> Reply:
        """Answer a read from the applied state, changing nothing."""
        try:
            command = decode_command(entry.command)
        except msgspec.MsgspecError as error:
            return _as_reply(entry, refuse(ProtocolViolation(f"The read cannot be decoded: {error}")))
        if isinstance(command, Lookup):
            info = self._objects.find(command.name)
            if info is None:
                text = f"No object is called {command.name!r}. concoord.list_objects() lists those that exist."
                return _as_reply(entry, refuse(NoSuchObject(text)))
            return _as_reply(entry, value(info))
        if isinstance(command, ListObjects):
            return _as_reply(entry, value(self._objects.named()))
        if isinstance(command, Call) and self._objects.is_readonly(command.object_id, command.method):
            effects = ReadOnlyEffects(self.time_ns, self.wall_ns)
            context = CallContext(effects, entry.session, entry.seq, command.owner, command.object_id)
            result = self._objects.call(context, command)
            return _as_reply(entry, result if isinstance(result, Answer) else value(result))
        return _as_reply(entry, refuse(ProtocolViolation(f"{type(command).__name__} cannot be read outside the log.")))

    # waiters.Effects: what primitives do to the state around them.

    def changing(self) -> None:
        """See ``Effects``. In the log, everything may change."""

    def random(self) -> random.Random:
        """See ``Effects``. Seeded by the ensemble, the slot, and how often it was asked for within the slot."""
        self._draws += 1
        return random.Random(f"{self._ensemble}/{self.next_slot}/{self._draws}")

    def next_token(self) -> int:
        """See ``Effects``."""
        self._tokens += 1
        return self._tokens

    def parked(self, waiter: Waiter) -> None:
        """See ``Effects``."""
        session = self._sessions[waiter.session]
        if waiter.seq in session.parked:
            raise RuntimeError("this call waits already: a replicated method can block once, as its last act")
        session.parked[waiter.seq] = waiter
        self._parked += 1
        self._timers.set(waiter, self._parked)

    def answer(self, waiter: Waiter, result: Any) -> None:
        """See ``Effects``."""
        session = self._sessions[waiter.session]
        self._unpark(session, waiter.seq)
        self._keep(session, waiter.seq, value(result))

    def granted(self, session: int, seq: int, primitive: Primitive, grant: Any) -> None:
        """See ``Effects``."""
        self._grants[session, seq] = Grant(primitive, grant)

    def holds(self, session: int, primitive: Primitive, object_id: int) -> None:
        """See ``Effects``."""
        holder = self._sessions.get(session)
        if holder is not None:
            holder.holdings[primitive] = object_id

    def holds_no_more(self, session: int, primitive: Primitive) -> None:
        """See ``Effects``."""
        holder = self._sessions.get(session)
        if holder is not None:
            holder.holdings.pop(primitive, None)


def _as_reply(entry: Entry, answer: Answer) -> Reply:
    return Reply(entry.session, entry.seq, Outcome(answer.outcome), answer.payload)
