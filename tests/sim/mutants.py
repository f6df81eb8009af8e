"""Known mistakes, each made on purpose: the simulator is worth as much as the mistakes that it finds.

A mutant patches the code under test, and nothing in production knows of it. ``seeds`` is the stated bound: one of so
many seeds, from ``first_seed`` on, must break, by one of ``invariants``. The bounds are several times what each needed
when it was written; rare ones start close to a seed that showed them then.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest.mock import PropertyMock, patch

import msgspec

from concoord_ray.errors import SessionExpired
from concoord_ray.paxos.acceptor import Acceptor
from concoord_ray.paxos.leader import Leader
from concoord_ray.paxos.learner import Learner
from concoord_ray.paxos.messages import P1b, P2a, P2b, PValue
from concoord_ray.paxos.outputs import Accepted, Decided, Promised
from concoord_ray.paxos.replica import Replica
from concoord_ray.paxos.view import View
from concoord_ray.rsm.context import entered
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.service import Service
from concoord_ray.rsm.sessions import EndedSessions, Intervals
from concoord_ray.rsm.waiters import PARKED
from concoord_ray.threadingobject.dlock import DLock
from concoord_ray.threadingobject.dsemaphore import DSemaphore
from tests.sim.cluster import Cluster
from tests.sim.disk import GroupCommit
from tests.sim.scenario import Kind

Patch = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake."""

    name: str
    kind: Kind
    patch: Patch
    invariants: frozenset[str]
    seeds: int
    first_seed: int = 0


def replacing(cls: type, name: str, mistaken: Any) -> Patch:
    """Patch one attribute of a class."""
    return lambda: patch.object(cls, name, mistaken)


# Paxos.


def _takes_first(scout: Any, accepted: Any) -> None:
    """As ConCoord's ``pmax``: ballots are not compared."""
    for pvalue in accepted:
        scout.shown.setdefault(pvalue.slot, pvalue)


def _counts_messages(self: Any, source: Any, message: P2b) -> Decided | None:
    if not self.is_leading or not message.ballot == message.promised == self.ballot:
        return None
    commander = self._commanders.get(message.slot)
    if commander is None:
        return None
    commander.accepted_by.add((source, len(commander.accepted_by)))
    if len(commander.accepted_by) < self.view.quorum:
        return None
    del self._commanders[message.slot]
    return Decided(message.slot, commander.value)


def _counts_stale(original: Any) -> Any:
    """The ballot of the question is not looked at: a refusal of an older one passes for an answer to this one."""

    def receive(self: Leader, source: Any, message: P1b | P2b, *more: Any) -> Any:
        return original(self, source, msgspec.structs.replace(message, ballot=self.ballot), *more)

    return receive


def _first_page_only(original: Any) -> Any:
    def receive(self: Leader, source: Any, message: P1b, *more: Any) -> Any:
        return original(self, source, msgspec.structs.replace(message, next_slot=None), *more)

    return receive


def _forgets_promises(original: Any) -> Any:
    return lambda self, records: original(self, [each for each in records if not isinstance(each, Promised)])


def _accepts_anything(self: Any, source: Any, message: P2a) -> None:
    state = self._epochs.get(message.epoch)
    if state is not None:
        pvalue = PValue(message.ballot, message.slot, message.value)
        self._accept(state, pvalue)
        self.outputs.persist.append(Accepted(message.epoch, pvalue))
        self._reply(source, P2b(message.epoch, message.ballot, message.ballot, message.slot))


def _answers_first(original: Any) -> Any:
    def submit(self: GroupCommit, records: Any, release: Callable[[], None]) -> None:
        release()
        original(self, records, lambda: None)

    return submit


def _fills_with_noops(original: Any) -> Any:
    def adopt(self: Any, scout: Any, *more: Any) -> None:
        for slot, pvalue in scout.shown.items():
            scout.shown[slot] = msgspec.structs.replace(pvalue, value=self._noop)
        original(self, scout, *more)

    return adopt


def _skips_gaps(self: Any, slot: int, value: bytes, *, is_final: bool) -> list[Decided]:
    if slot < self.next_slot:
        return []
    self._log.extend([value] * (slot + 1 - self.next_slot))
    self.next_slot = slot + 1
    return [Decided(slot, value)]


def _never_catches_up(original: Any) -> Any:
    def receive(self: Replica, source: Any, message: Any, now_s: float) -> None:
        original(self, source, msgspec.structs.replace(message, decided=0), now_s)

    return receive


def _reads_unconfirmed(original: Any) -> Any:
    def confirm(self: Replica, now_s: float) -> int:
        self.confirmed_nonce = original(self, now_s)
        return self.confirmed_nonce

    return confirm


def _leads_on(original: Any) -> Any:
    def step_down(self: Replica, *more: Any) -> None:
        if not self.is_leader:
            original(self, *more)

    return step_down


PAXOS = (
    Mutant(
        "phase 1 adopts the first value shown, whatever its ballot",
        Kind.PROTOCOL,
        replacing(Leader, "_gather", staticmethod(_takes_first)),
        frozenset({"ChosenByMajority"}),
        600,
    ),
    Mutant(
        "a quorum is one acceptor too small",
        Kind.PROTOCOL,
        lambda: patch.object(View, "quorum", property(lambda view: len(view.acceptors) // 2)),
        frozenset({"ChosenByMajority"}),
        5,
    ),
    Mutant(
        "a repeated acceptance counts twice",
        Kind.PROTOCOL,
        replacing(Leader, "receive_p2b", _counts_messages),
        frozenset({"ChosenByMajority"}),
        20,
    ),
    Mutant(
        "the refusal of an older p1a counts as a promise with nothing accepted",
        Kind.PROTOCOL,
        lambda: patch.object(Leader, "receive_p1b", _counts_stale(Leader.receive_p1b)),
        frozenset({"ChosenByMajority"}),
        1600,
        first_seed=300,
    ),
    Mutant(
        "the refusal of an older p2a counts as an acceptance",
        Kind.PROTOCOL,
        lambda: patch.object(Leader, "receive_p2b", _counts_stale(Leader.receive_p2b)),
        frozenset({"ChosenByMajority"}),
        600,
        first_seed=700,
    ),
    Mutant(
        "phase 1 reads only the first page of what an acceptor shows",
        Kind.PROTOCOL,
        lambda: patch.object(Leader, "receive_p1b", _first_page_only(Leader.receive_p1b)),
        frozenset({"ChosenByMajority", "Liveness"}),
        50,
    ),
    Mutant(
        "a new leader fills the slots that it found with empty batches",
        Kind.PROTOCOL,
        lambda: patch.object(Leader, "_adopt", _fills_with_noops(Leader._adopt)),
        frozenset({"ChosenByMajority"}),
        20,
    ),
    Mutant(
        "an acceptor forgets its promises in a restart",
        Kind.PROTOCOL,
        lambda: patch.object(Acceptor, "restore", _forgets_promises(Acceptor.restore)),
        frozenset({"PromisesNeverFall", "ChosenByMajority"}),
        600,
    ),
    Mutant(
        "an acceptor accepts below its promise",
        Kind.PROTOCOL,
        replacing(Acceptor, "_receive_p2a", _accepts_anything),
        frozenset({"PromisesNeverFall"}),
        50,
    ),
    Mutant(
        "an acceptor answers before it has written",
        Kind.PROTOCOL,
        lambda: patch.object(GroupCommit, "submit", _answers_first(GroupCommit.submit)),
        frozenset({"AnswersAreDurable"}),
        5,
    ),
    Mutant(
        "an acceptor without memory keeps its incarnation",
        Kind.PROTOCOL,
        replacing(Cluster, "without_memory", lambda self, former: former),
        frozenset({"AnswersAreDurable", "PromisesNeverFall", "ChosenByMajority"}),
        50,
    ),
    Mutant(
        "a learner skips gaps",
        Kind.PROTOCOL,
        replacing(Learner, "learn", _skips_gaps),
        frozenset({"GapFree"}),
        10,
    ),
    Mutant(
        "a replica that lags never asks for what it missed",
        Kind.PROTOCOL,
        lambda: patch.object(Replica, "_receive_heartbeat", _never_catches_up(Replica._receive_heartbeat)),
        frozenset({"Liveness"}),
        100,
    ),
    Mutant(
        "a leader that is preempted, or has lost its majority, leads on",
        Kind.FULL,
        lambda: patch.object(Replica, "_step_down", _leads_on(Replica._step_down)),
        frozenset({"Liveness"}),
        50,
    ),
    Mutant(
        "a read is served without a confirmation round",
        Kind.FULL,
        lambda: patch.object(Replica, "confirm", _reads_unconfirmed(Replica.confirm)),
        frozenset({"Linearizable"}),
        400,
    ),
    Mutant(
        "a read ignores its barrier",
        Kind.FULL,
        lambda: patch.object(Replica, "read_barrier", PropertyMock(return_value=0)),
        frozenset({"Linearizable"}),
        100,
    ),
)


# The replicated state machine.


def _runs_again(original: Any) -> Any:
    def apply(self: Any, entry: Any) -> None:
        session = self._sessions.get(entry.session)
        if session is not None:
            session.answers.pop(entry.seq, None)
            session.acknowledged = Intervals()
        original(self, entry)

    return apply


def _leaves_timed_out_in_queue(self: Any) -> bool:
    while (waiter := self._timers.pop_due(self.time_ns)) is not None:
        with entered(self._own_context()):
            result = waiter.primitive.timed_out(waiter)
            if result is not PARKED:
                self.answer(waiter, result)
    return True


def _ends_without_withdrawing(original: Any) -> Any:
    def end(self: Any, session: Any) -> None:
        session.parked.clear()
        original(self, session)

    return end


def _takes_back_what_was_answered(original: Any) -> Any:
    def cancel(self: Any, session: Any, command: Any) -> Any:
        return original(self, session, msgspec.structs.replace(command, timed_out=False))

    return cancel


def _keeps_routes(original: Any) -> Any:
    def notice(self: Any, now_s: float) -> None:
        routes = {key: list(route) for key, route in self._routes.items()}
        original(self, now_s)
        self._routes.update(routes)

    return notice


def _own_token(self: Any) -> int:
    self._tokens += 1 + self._me.index
    return int(self._tokens)


def _same_token(self: Any) -> int:
    self._tokens = 7
    return 7


RSM = (
    Mutant(
        "a command that comes again is executed again",
        Kind.FULL,
        lambda: patch.object(Executor, "_apply_entry", _runs_again(Executor._apply_entry)),
        frozenset({"ExactlyOnce"}),
        10,
    ),
    Mutant(
        "a waiter that timed out stays in the queue, and has its turn there",
        Kind.FULL,
        lambda: patch.multiple(Executor, _fire_timers=_leaves_timed_out_in_queue, waits=lambda self, waiter: True),
        frozenset({"GrantsToTheWaiting", "ExactlyOnce"}),
        100,
    ),
    Mutant(
        "what a cancelled call was granted is not given back",
        Kind.FULL,
        lambda: patch.multiple(DSemaphore, give_back=lambda self, grant: None),
        frozenset({"NothingIsLeftHeld", "Linearizable", "Liveness"}),
        100,
    ),
    Mutant(
        "the lock of a cancelled call is not given back",
        Kind.FULL,
        lambda: patch.multiple(DLock, give_back=lambda self, grant: None),
        frozenset({"NothingIsLeftHeld", "Linearizable", "Liveness"}),
        100,
    ),
    Mutant(
        "a session ends and its waiters stay in their queues",
        Kind.FULL,
        lambda: patch.object(Executor, "_end", _ends_without_withdrawing(Executor._end)),
        frozenset({"GrantsToTheWaiting", "ExactlyOnce", "KeyError"}),
        100,
    ),
    Mutant(
        "a session ends and what it held stays held",
        Kind.FULL,
        lambda: patch.multiple(DLock, release_scope=lambda self, scope: None),
        frozenset({"NothingIsLeftHeld", "Liveness"}),
        100,
    ),
    Mutant(
        "a timeout takes back a grant that its caller has been told of",
        Kind.FULL,
        lambda: patch.object(Executor, "_cancel", _takes_back_what_was_answered(Executor._cancel)),
        frozenset({"MutualExclusion", "Linearizable", "NothingIsLeftHeld"}),
        100,
    ),
    Mutant(
        "a retry after the end of its session is told that it never ran, though it did",
        Kind.FULL,
        replacing(EndedSessions, "error", lambda self, session, seq: SessionExpired("ended")),
        frozenset({"Linearizable", "MutualExclusion"}),
        600,
        first_seed=400,
    ),
    Mutant(
        "a leader keeps its routes across a step-down",
        Kind.FULL,
        lambda: patch.object(Service, "_notice_leadership", _keeps_routes(Service._notice_leadership)),
        frozenset({"Liveness"}),
        400,
    ),
    Mutant(
        "a replica draws tokens of its own",
        Kind.FULL,
        lambda: patch.object(Executor, "next_token", _own_token),
        frozenset({"SameExecution", "ExactlyOnce"}),
        5,
    ),
    Mutant(
        "a token is given twice",
        Kind.FULL,
        lambda: patch.object(Executor, "next_token", _same_token),
        frozenset({"MutualExclusion", "Linearizable"}),
        10,
    ),
    Mutant(
        "leases never run out",
        Kind.FULL,
        lambda: patch.object(Service, "_expire_leases", lambda self, now_s: None),
        frozenset({"Liveness"}),
        10,
    ),
)

MUTANTS = PAXOS + RSM
