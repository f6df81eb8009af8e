"""A primitive that was restored from a snapshot goes on as the one that it was taken of.

Random logs: at a random slot a second executor is restored, and both execute the rest. Every reply, wake-up, deadline
and end of a session must be the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from concoord_ray import objects
from concoord_ray.rsm.calls import Applied
from concoord_ray.rsm.command import (
    NO_SLOT_AFTER,
    Batch,
    Cancel,
    CloseSession,
    Command,
    EndTask,
    Entry,
    ExpireSession,
    OpenSession,
)
from concoord_ray.rsm.digest import digest
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.wire import encode_message
from tests.rsm.log import SECOND_NS, Handle, calling, creation, describe
from tests.rsm.test_guards import Buffer, Feeder

SLOTS = 120
OWNERS = ("main", "main", "other", "thread@task")

Draw = Callable[[random.Random], Any]


class Use(NamedTuple):
    """A call that may be made of the object with this id."""

    object_id: int
    method: str
    draw: Draw = lambda rng: {}
    often: int = 1


class Family(NamedTuple):
    """What is created, in order, and then used."""

    created: tuple[tuple[Any, ...], ...]
    uses: tuple[Use, ...]


def _timeout(rng: random.Random) -> dict[str, Any]:
    return {} if rng.random() < 0.5 else {"timeout": rng.choice((0.1, 0.1, 0.7, 2.0))}


def _number(name: str, upto: int) -> Draw:
    return lambda rng: {name: rng.randint(1, upto)}


def _mutex(object_id: int) -> tuple[Use, ...]:
    return (
        Use(object_id, "acquire", _timeout, 3),
        Use(object_id, "acquire_fenced", _timeout, 2),
        Use(object_id, "release", often=4),
        Use(object_id, "release", _number("token", 20)),
        Use(object_id, "lost"),
        Use(object_id, "force_release"),
        Use(object_id, "inspect"),
    )


def _semaphore(object_id: int) -> tuple[Use, ...]:
    return (
        Use(object_id, "acquire", _timeout, 8),
        Use(object_id, "release", often=3),
        Use(object_id, "release", _number("n", 2)),
        Use(object_id, "inspect"),
    )


def _condition(object_id: int) -> tuple[Use, ...]:
    return (
        Use(object_id, "acquire", often=4),
        Use(object_id, "release", often=4),
        Use(object_id, "wait", _timeout, 4),
        Use(object_id, "notify", often=2),
        Use(object_id, "notify_all"),
        Use(object_id, "inspect"),
    )


FAMILIES = {
    "lock": Family(((objects.Lock,),), _mutex(1)),
    "rlock": Family(((objects.RLock,),), _mutex(1)),
    "semaphore": Family(((objects.Semaphore, 2),), _semaphore(1)),
    "bounded": Family(((objects.BoundedSemaphore, 2),), _semaphore(1)),
    "conditions that share a lock": Family(
        ((objects.RLock,), (objects.Condition, Handle(1)), (objects.Condition, Handle(1))),
        (*_condition(2), *_condition(3), Use(1, "acquire"), Use(1, "release", often=3), Use(1, "lost")),
    ),
    "barrier": Family(
        ((objects.Barrier, 3),),
        (Use(1, "wait", _timeout, 8), Use(1, "reset", often=2), Use(1, "abort"), Use(1, "inspect")),
    ),
    "event": Family(((objects.Event,),), (Use(1, "wait", _timeout, 6), Use(1, "set"), Use(1, "clear", often=2))),
    "rwlock": Family(
        ((objects.RWLock,),),
        (
            Use(1, "acquire_read", _timeout, 4),
            Use(1, "acquire_write", _timeout, 2),
            Use(1, "release_read", often=4),
            Use(1, "release_write", often=2),
            Use(1, "inspect"),
        ),
    ),
    "latch": Family(((objects.CountDownLatch, 40),), (Use(1, "wait", _timeout, 3), Use(1, "count_down"))),
    "queue": Family(
        ((objects.Queue, 2),),
        (
            Use(1, "put", lambda rng: {"item": [rng.random()], **_timeout(rng)}, 4),
            Use(1, "get", _timeout, 4),
            Use(1, "get_nowait"),
            Use(1, "inspect"),
        ),
    ),
    "election": Family(
        ((objects.Election,),),
        (
            Use(1, "campaign", _timeout, 3),
            Use(1, "resign", _number("token", 20), 8),
            Use(1, "lost", _number("token", 20), 2),
            Use(1, "candidates"),
        ),
    ),
    "guards": Family(
        ((Buffer, 2), (Feeder, Handle(1)), (Buffer, 1)),
        (
            *(Use(at, "put", lambda rng: {"item": rng.random()}, 3) for at in (1, 3)),
            *(Use(at, method) for at in (1, 3) for method in ("take", "take", "take_two", "half_blunder")),
            Use(2, "feed_kept", lambda rng: {"item": "kept"}),
            Use(2, "feed", lambda rng: {"buffer": Handle(3), "item": "given"}),
        ),
    ),
    "counter": Family(((objects.Counter, 5),), (Use(1, "increment"), Use(1, "decrement", _number("by", 3)))),
}


class RandomLog:
    """Decided slots: sessions call, cancel, acknowledge, send again, end and begin."""

    def __init__(self, family: Family, seed: str) -> None:
        self.rng = random.Random(seed)
        self._uses = [use for use in family.uses for _ in range(use.often)]
        self._time_ns = SECOND_NS
        self._opened = 0
        self._sent: dict[int, list[Command]] = {}
        self.batches = [self._batch([self._open() for _ in range(4)])]
        self.batches.append(self._batch([self._next(1, creation(*what)) for what in family.created]))
        for _ in range(SLOTS):
            self._time_ns += int(self.rng.choice((0, 0.01, 0.05, 0.3)) * SECOND_NS)
            self.batches.append(self._batch([self._entry() for _ in range(self.rng.randint(1, 3))]))

    def _batch(self, entries: list[Entry]) -> bytes:
        return encode_message(Batch(self._time_ns, self._time_ns, tuple(entries)))

    def _open(self) -> Entry:
        self._opened += 1
        self._sent[self._opened] = []
        return Entry(0, 1000 + self._opened, (), encode_message(OpenSession(SECOND_NS, f"process {self._opened}")))

    def _next(self, session: int, command: Command) -> Entry:
        self._sent[session].append(command)
        acks = tuple(self._acks(len(self._sent[session])))
        return Entry(session, len(self._sent[session]), acks, encode_message(command))

    def _acks(self, seq: int) -> list[tuple[int, int]]:
        first = self.rng.randint(1, seq)
        return [(first, min(seq - 1, first + 2))] if self.rng.random() < 0.3 and first < seq else []

    def _entry(self) -> Entry:
        rng, draw = self.rng, self.rng.random()
        session = rng.choice(list(self._sent)[-4:])
        sent = self._sent[session]
        if draw < 0.03:
            return self._open()
        if draw < 0.05:
            return self._next(session, CloseSession())
        if draw < 0.06:
            return Entry(0, 0, (), encode_message(ExpireSession(session, NO_SLOT_AFTER)))
        if draw < 0.09:
            return self._next(session, EndTask("task"))
        if draw < 0.19 and sent:
            return self._next(session, Cancel(rng.randint(max(1, len(sent) - 3), len(sent) + 1), rng.random() < 0.3))
        if draw < 0.25 and sent:
            seq = rng.randint(1, len(sent))
            return Entry(session, seq, (), encode_message(sent[seq - 1]))
        use = rng.choice(self._uses)
        return self._next(session, calling(use.object_id, use.method, owner=rng.choice(OWNERS), **use.draw(rng)))


def outcome(executor: Executor, slot: int, batch: bytes) -> tuple[Any, ...]:
    """Everything that comes of a slot, with results and errors as they read."""
    executor.apply(slot, batch)
    applied = executor.take_applied()
    replies = [(reply.session, reply.seq, describe(reply)) for reply in applied.replies]
    return replies, applied.opened, applied.ended, applied.time_ns, applied.next_deadline_ns, executor._tokens


def state(executor: Executor) -> list[bytes]:
    objects = executor._objects.instances()
    return [digest(part, budget=10_000, seed=1) for part in (*objects, executor._sessions, executor._ended)]


def restored(executor: Executor) -> Executor:
    another = Executor("here")
    another.restore(executor.snapshot())
    known: Applied = another.take_applied()
    assert known.opened == [(session.id, session.ttl_ns) for session in executor._sessions.values()]
    return another


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", FAMILIES)
def test_it_goes_on_as_if_nothing_had_happened(name: str, seed: int) -> None:
    log = RandomLog(FAMILIES[name], f"{name}/{seed}")
    executor, expected, waited = Executor("here"), [], []
    for slot, batch in enumerate(log.batches):
        if executor._parked or name == "counter":
            waited.append(slot)
        expected.append(outcome(executor, slot, batch))
    cut = log.rng.choice(waited)
    cuts = {cut, log.rng.randrange(cut, len(log.batches))}
    another = Executor("here")
    for slot, batch in enumerate(log.batches):
        if slot in cuts:
            another = restored(another)
        assert outcome(another, slot, batch) == expected[slot]
    assert executor._sessions.keys() == another._sessions.keys()
    assert state(executor) == state(another)


def test_what_a_session_holds_are_the_primitives_inside_of_the_objects() -> None:
    log = RandomLog(FAMILIES["lock"], "holdings")
    executor = Executor("here")
    held = granted = 0
    for slot, batch in enumerate(log.batches):
        outcome(executor, slot, batch)
        another = restored(executor)
        mutex = next((instance._concoord_mutex for _, instance in another._objects.instances()), None)
        for session in another._sessions.values():
            assert all(list(holding) == [mutex] for holding in session.holdings.values())
            held += len(session.holdings)
            for answer in session.answers.values():
                for grant in answer.grants:
                    assert grant.primitive is mutex
                    granted += 1
            for waiter in session.parked.values():
                assert waiter.primitive is mutex
                assert waiter in list(waiter.queue)
        if slot > 30:
            break
    assert held
    assert granted
