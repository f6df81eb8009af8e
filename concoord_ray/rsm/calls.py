"""Every call of every session: answered, parked or withdrawn; and what sessions hold.

This is what the primitives inside replicated objects see of the state machine around them (``waiters.Effects``), and
what the executor does to calls as a whole: keep an answer until it is acknowledged, withdraw a waiter, end a session.

Invariants: a call is in at most one of a session's ``parked`` and ``answers``; a waiter that is taken out of its queue
is answered or withdrawn in the same step; what a scope holds is released before the scope is forgotten.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from concoord_ray.config import Config
from concoord_ray.errors import (
    FrameTooLarge,
    OutcomeUnknown,
    Overloaded,
)
from concoord_ray.paxos.membership import Size
from concoord_ray.rsm import withdrawn
from concoord_ray.rsm.checkpoint import Checkpoint
from concoord_ray.rsm.command import Cancel, Entry, ExpireSession, OpenSession, Outcome, Reply, Withdrawal
from concoord_ray.rsm.context import CallContext, Scope, entered
from concoord_ray.rsm.objects import refuse, value
from concoord_ray.rsm.sessions import Answer, EndedSessions, Grant, Session
from concoord_ray.rsm.timers import Timers
from concoord_ray.rsm.waiters import PARKED, Primitive, Waiter

#: How many ended Ray tasks of a session are remembered.
_ENDED_TASKS = 1000
#: A generation is the time of a recovery in seconds, or 0. So this many bits are for the tokens of one second, far more
#: than can be drawn; and until the year 2106 every token is below 2**63.
GENERATION_SHIFT = 31

#: Beyond so many times the bounds results are not even kept of calls that were on their way already ...
_EXCESS = 2
#: ... but for those that are small.
_SMALL_BYTES = 1 << 10

#: So many sessions are named in a slot.
_MOST_CROWDED = 1000


@dataclass(slots=True)
class Applied:
    """What applying slots did, for the replica around the executor."""

    #: Every slot below this one is applied.
    next_slot: int = 0
    time_ns: int = 0
    #: When, in ensemble time, the next parked call times out; None if none will.
    next_deadline_ns: int | None = None
    replies: list[Reply] = field(default_factory=list)
    #: How many acceptors and replicas the users want, None if they have never said so.
    size: Size | None = None
    #: In which slot they last said so, -1 if never.
    resized_slot: int = -1
    #: What this replica came to at the checkpoints among these slots.
    checkpoints: list[Checkpoint] = field(default_factory=list)
    #: Sessions opened, with their leases, and ended.
    opened: list[tuple[int, int]] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    #: Sessions that have too many results waiting for them.
    crowded: tuple[int, ...] = ()


class Calls:
    """The calls and sessions of one ensemble. Implements ``waiters.Effects``."""

    def __init__(self, ensemble: str, config: Config, generation: int) -> None:
        self._config = config
        self.time_ns = 0
        self.wall_ns = 0
        self.next_slot = 0
        self._ensemble = ensemble
        self._sessions: dict[int, Session] = {}
        self._ended = EndedSessions(config.remembered_sessions)
        self._nonces: dict[int, int] = {}
        self._next_session = 1
        self._tokens = self._first_token = generation << GENERATION_SHIFT
        #: What the users want the ensemble to be, None if they have never said so.
        self.size: Size | None = None
        #: In which slot they last said so, -1 if never.
        self.resized_slot = -1
        #: The stop-sign that ended the epoch before this one, empty in the first.
        self.stop_sign = b""
        self._timers = Timers()
        self._parked = 0
        #: How large the answers are that all sessions have not acknowledged.
        self._kept_bytes = 0
        #: Sessions whose calls are refused in this slot.
        self._refusing: tuple[int, ...] = ()
        self._draws = 0
        #: What calls were granted that have no answer yet, in order.
        self._grants: dict[tuple[int, int], list[Grant]] = {}
        self._applied = Applied()

    def take_applied(self) -> Applied:
        """What has been applied since the last call."""
        applied = self._applied
        applied.next_slot, applied.time_ns = self.next_slot, self.time_ns
        applied.next_deadline_ns = self._timers.next_deadline_ns()
        applied.size, applied.resized_slot = self.size, self.resized_slot
        applied.crowded = self._crowded()
        self._applied = Applied()
        return applied

    # Answers.

    def _reply(self, entry: Entry, session: Session | None, answer: Answer) -> None:
        if session is not None and session.id in self._sessions and entry.seq:
            self._keep(session, entry.seq, answer)
        else:
            self._applied.replies.append(as_reply(entry, answer))

    def _keep(self, session: Session, seq: int, answer: Answer) -> None:
        answer = self._bounded(session, seq, answer)
        grants = self._grants.pop((session.id, seq), ())
        self._kept_bytes += session.keep(seq, answer._replace(grants=tuple(grants)) if grants else answer)
        self._applied.replies.append(Reply(session.id, seq, answer.outcome, answer.payload))

    def _acknowledge(self, session: Session, acks: tuple[tuple[int, int], ...]) -> bool:
        """The client has these replies, or gave these calls up: one that still waits would be granted to nobody.

        Whether one was withdrawn.
        """
        self._kept_bytes -= session.acknowledge(acks)
        parked = session.parked
        given_up: dict[int, Waiter] = {}
        for first, last in acks if parked else ():
            is_short = last - first < len(parked)
            for seq in range(first, last + 1) if is_short else parked:
                if first <= seq <= last and seq in parked:
                    given_up[seq] = parked[seq]
        self._withdraw(given_up.values())
        for seq in given_up:
            self._give_back(self._grants.pop((session.id, seq), ()))
            told = withdrawn.cancelled()
            self._applied.replies.append(Reply(session.id, seq, told.outcome, told.payload))
        return bool(given_up)

    # Bounds. They are of the replicated state, or of the log, so every replica refuses the same.

    def _refusal(self, session: Session) -> Answer | None:
        """Why a call of the session is not executed now, None if it is."""
        if session.id not in self._refusing:
            return None
        config = self._config
        text = (
            f"Too many results are kept because their callers have not said that they have them: for this process "
            f"(max_unacknowledged_bytes is {config.max_unacknowledged_bytes}) or for all (max_kept_bytes is "
            f"{config.max_kept_bytes}). Take those of fewer calls at a time, or make them smaller. This call was not "
            f"executed."
        )
        return refuse(Overloaded(text))

    def _crowded(self) -> tuple[int, ...]:
        """Sessions whose next calls had better be refused. How large results are is known to this replica alone."""
        config, sessions = self._config, self._sessions
        if self._kept_bytes < min(config.max_unacknowledged_bytes, config.max_kept_bytes):
            return ()
        limit = config.max_unacknowledged_bytes
        if self._kept_bytes >= config.max_kept_bytes:  # Those that have more than half of their share of it.
            limit = min(limit, config.max_kept_bytes // (2 * len(sessions)))
        crowded = (session.id for session in sessions.values() if session.kept_bytes > limit)
        return tuple(islice(crowded, _MOST_CROWDED))

    def _bounded(self, session: Session, seq: int, answer: Answer) -> Answer:
        """The answer, or one without a result that is too large to be sent, or that there is no more room for.

        Here a replica may come to another answer than others, whose pickles have other sizes: that is no harm, since
        the call is executed on all of them, and answers decide nothing.
        """
        config, size = self._config, len(answer.payload)
        if size > config.max_payload_bytes:
            return refuse(too_large(seq, "its result", size, config.max_payload_bytes))
        is_over = session.kept_bytes + size > _EXCESS * config.max_unacknowledged_bytes
        if is_over or self._kept_bytes + size > _EXCESS * config.max_kept_bytes:
            text = (
                f"Call {seq} was executed, but its result of {size} bytes is not kept: there are {self._kept_bytes} "
                f"bytes of results already that their callers have not said to have. Take those of fewer calls at a "
                f"time, and look at the object before a retry."
            )
            return answer if size < _SMALL_BYTES else refuse(OutcomeUnknown(text))
        return answer

    # Sessions.

    def _open(self, entry: Entry, command: OpenSession) -> None:
        session_id = self._nonces.get(entry.seq)
        if session_id is None and len(self._sessions) >= self._config.max_sessions:
            text = (
                f"{len(self._sessions)} processes have a session in the ensemble, and max_sessions is "
                f"{self._config.max_sessions}. One that ends makes room; or start another ensemble."
            )
            self._applied.replies.append(as_reply(entry, refuse(Overloaded(text))))
            return
        if session_id is None:
            session_id = self._next_session
            self._next_session += 1
            session = Session(session_id, entry.seq, command.ttl_ns, command.description)
            session.last_slot = self.next_slot
            self._sessions[session_id] = session
            self._nonces[entry.seq] = session_id
            self._applied.opened.append((session_id, command.ttl_ns))
        self._applied.replies.append(as_reply(entry, value(session_id)))

    def _expire(self, entry: Entry, command: ExpireSession) -> None:
        session = self._sessions.get(command.session)
        if session is not None and session.last_slot <= command.seen_slot:
            self._end(session)
        if entry.seq:
            self._applied.replies.append(as_reply(entry, value(None)))

    def _end(self, session: Session) -> None:
        """Nothing of the session may be granted any more before what it held is given to others."""
        scopes = list(session.holdings)
        self._tell_losing(session, scopes)
        self._ended.add(session)
        waiters = list(session.parked.values())
        self._withdraw(waiters)
        for waiter in waiters:
            expired = refuse(self._ended.error(session.id, waiter.seq))
            self._applied.replies.append(Reply(session.id, waiter.seq, expired.outcome, expired.payload))
            self._grants.pop((session.id, waiter.seq), None)
        self._release(session, scopes)
        self._kept_bytes -= session.kept_bytes
        del self._sessions[session.id]
        del self._nonces[session.nonce]
        self._applied.ended.append(session.id)

    def _end_task(self, session: Session, task: str) -> None:
        """As ``_end``, for one Ray task of a process that lives on."""
        session.ended_tasks[task] = None
        if len(session.ended_tasks) > _ENDED_TASKS:
            del session.ended_tasks[next(iter(session.ended_tasks))]
        scope = Scope(session.id, task)
        self._tell_losing(session, [scope])
        waiters = [waiter for waiter in session.parked.values() if waiter.owner.scope == scope]
        self._withdraw(waiters)
        for waiter in waiters:
            self._keep(session, waiter.seq, withdrawn.task_ended())
        self._release(session, [scope])

    def _tell_losing(self, session: Session, scopes: list[Scope]) -> None:
        with entered(self._own_context()):
            for scope in scopes:
                for primitive in list(session.holdings.get(scope, ())):
                    primitive.losing(scope)

    def _release(self, session: Session, scopes: list[Scope]) -> None:
        with entered(self._own_context()):
            for scope in scopes:
                for primitive in session.holdings.pop(scope, ()):
                    primitive.release_scope(scope)

    def _cancel(self, session: Session, command: Cancel) -> Withdrawal:
        seq = command.seq
        waiter = session.parked.get(seq)
        told = withdrawn.timed_out(waiter) if command.timed_out else withdrawn.cancelled()
        if waiter is not None:
            self._withdraw((waiter,))
            if not command.timed_out:
                self._give_back(self._grants.pop((session.id, seq), ()))
            self._keep(session, seq, told)
            return Withdrawal.WITHDRAWN
        answer = session.answers.get(seq)
        if answer is not None and answer.grants and not command.timed_out:
            self._give_back(answer.grants)
            self._keep(session, seq, told)
            return Withdrawal.GIVEN_BACK
        if answer is None and seq not in session.acknowledged:
            self._keep(session, seq, told)  # A tombstone: if the call is still on its way, it will not run.
            return Withdrawal.WITHDRAWN
        return Withdrawal.APPLIED

    def _give_back(self, grants: Sequence[Grant]) -> None:
        """Undo what a call was granted, the last first."""
        with entered(self._own_context()):
            for grant in reversed(grants):
                grant.primitive.give_back(grant.detail)

    def _withdraw(self, waiters: Collection[Waiter]) -> None:
        """Take waiters out of their queues for good; the caller says what their calls are told.

        All are out before the first primitive hears of it: none may get what another one has left.
        """
        for waiter in waiters:
            self._unpark(self._sessions[waiter.session], waiter.seq)
            waiter.queue.remove(waiter)
        with entered(self._own_context()):
            for waiter in waiters:
                waiter.primitive.gone(waiter)

    def _unpark(self, session: Session, seq: int) -> None:
        session.parked.pop(seq).deadline_ns = None
        self._parked -= 1

    def _own_context(self) -> CallContext:
        return CallContext(self, 0, 0, "", 0)

    # Timers.

    def _fire_timers(self) -> bool:
        """Handle every deadline that ensemble time has passed; whether there was one."""
        fired = False
        while (waiter := self._timers.pop_due(self.time_ns)) is not None:
            fired = True
            waiter.queue.remove(waiter)
            with entered(self._own_context()):
                result = waiter.primitive.timed_out(waiter)
                if result is not PARKED:
                    self.answer(waiter, result)
        return fired

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
        if self._parked >= self._config.max_parked_calls:
            # Only now: a call that need not wait may be what the others wait for.
            raise Overloaded(
                f"{self._parked} calls wait in the ensemble already, and max_parked_calls is "
                f"{self._config.max_parked_calls}. This one cannot wait too; try again when some have ended."
            )
        session.parked[waiter.seq] = waiter
        self._parked += 1
        self._timers.set(waiter, self._parked)

    def waits(self, waiter: Waiter) -> bool:
        """See ``Effects``."""
        session = self._sessions.get(waiter.session)
        return session is not None and session.parked.get(waiter.seq) is waiter

    def answer(self, waiter: Waiter, result: Any) -> None:
        """See ``Effects``."""
        session = self._sessions[waiter.session]
        self._unpark(session, waiter.seq)
        self._keep(session, waiter.seq, result if type(result) is Answer else value(result))

    def granted(self, session: int, seq: int, primitive: Primitive, grant: Any) -> None:
        """See ``Effects``."""
        self._grants.setdefault((session, seq), []).append(Grant(primitive, grant))

    def holds(self, scope: Scope, primitive: Primitive) -> None:
        """See ``Effects``."""
        session = self._sessions.get(scope.session)
        if session is not None:
            session.holdings.setdefault(scope, {})[primitive] = None

    def holds_no_more(self, scope: Scope, primitive: Primitive) -> None:
        """See ``Effects``."""
        session = self._sessions.get(scope.session)
        held = None if session is None else session.holdings.get(scope)
        if session is not None and held is not None:
            held.pop(primitive, None)
            if not held:
                del session.holdings[scope]

    def describe(self, session: int) -> str:
        """See ``Effects``."""
        known = self._sessions.get(session)
        return "a process that has ended" if known is None else known.description


def too_large(seq: int, what: str, size_bytes: int, limit_bytes: int) -> FrameTooLarge:
    """Why a call, or its result, cannot be sent."""
    return FrameTooLarge(
        f"Call {seq}: {what} has {size_bytes} bytes, at most {limit_bytes} fit. Pass large data by reference, as a "
        f"path or a key, or start the ensemble with a larger max_frame_bytes."
    )


def as_reply(entry: Entry, answer: Answer) -> Reply:
    """An answer as the reply to an entry."""
    return Reply(entry.session, entry.seq, Outcome(answer.outcome), answer.payload)
