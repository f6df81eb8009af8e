"""What the simulated clients do with the whole threading family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from concoord_ray.objects.barrier import Barrier
from concoord_ray.objects.condition import Condition
from concoord_ray.objects.event import Event
from concoord_ray.objects.lock import Lock, RLock
from concoord_ray.objects.semaphore import BoundedSemaphore
from concoord_ray.rsm import codec
from concoord_ray.rsm.command import Call, EndTask
from concoord_ray.rsm.context import IN_TASK
from concoord_ray.rsm.methods import when
from tests.sim.history import Raised
from tests.sim.invariants import Broken
from tests.sim.workload import PERMITS, Ask, Lost, Script, Scripts, Sleep, WalkAway

CAPACITY = 2


class Buffer:
    """A bounded buffer of guarded methods."""

    def __init__(self, capacity: int) -> None:
        self._items: list[Any] = []
        self._capacity = capacity

    @when(lambda self: len(self._items) < self._capacity)
    def put(self, item: Any) -> None:
        self._items.append(item)

    @when(lambda self: self._items)
    def take(self) -> Any:
        return self._items.pop(0)


class ThreadingIsFaithful:
    """A primitive answered its caller as ``threading`` would not."""


class ThreadingScripts(Scripts):
    """Locks and what is built from them, by threads that die, lose patience, and forget."""

    objects = (
        ("lock", Lock, ()),
        ("rlock", RLock, ()),
        ("bounded", BoundedSemaphore, (PERMITS,)),
        ("condition", Condition, ()),
        ("barrier", Barrier, (2,)),
        ("event", Event, ()),
        ("buffer", Buffer, (CAPACITY,)),
    )
    readers = 0.0

    def _uses(self) -> list[tuple[Callable[[str], Script], int]]:
        return [
            (self._lock, 2),
            (self._task, 2),
            (self._rlock, 4),
            (self._bounded, 3),
            (self._consume, 4),
            (self._produce, 3),
            (self._meet, 3),
            (self._signal, 2),
            (self._buffer, 4),
            (self._watch, 2),
        ]

    def _final_state(self, name: str) -> Script:
        for what in ("lock", "rlock", "bounded", "condition", "barrier", "event"):
            yield self._call(name, f"{what} state", "inspect", of=what, readonly=True)

    def _rlock(self, name: str) -> Script:
        """In and in again; the second time must be granted at once, in the first one's name."""
        process = self._new_process(name)
        acquire = Call(self._ids["rlock"], "acquire_fenced", name, codec.encode_arguments((), {}))
        token = yield Ask(process, "rlock", "acquire", (), acquire, **self._patience())
        if token is Lost.UNKNOWN:
            yield WalkAway()
        if not _is_token(token):
            return
        if self._rng.random() < 0.6:
            again = yield self._call(name, "rlock again", "acquire_fenced", of="rlock")
            if isinstance(again, Lost):
                yield WalkAway()
                return
            if again != token and self._is_in_session(process):
                raise Broken(ThreadingIsFaithful(), f"{name} holds the RLock by {token}, and was given {again}")
            yield Sleep(self._rng.uniform(0, 0.05))
            out = yield self._call(name, "rlock again", "release", again, of="rlock")
            if isinstance(out, Lost):
                yield WalkAway()
                return
            if again != token:  # The first one ended with its session.
                return
        yield Sleep(self._rng.uniform(0, 0.1))
        yield from self._release(name, process, "rlock", (token,))

    def _task(self, name: str) -> Script:
        """A Ray task that takes the lock and ends without a word."""
        process = self._new_process(name)
        task = process.replace(" ", "-")
        acquire = Call(
            self._ids["lock"], "acquire_fenced", f"{name}{IN_TASK}{task}", codec.encode_arguments((), {"timeout": 1.0})
        )
        token = yield Ask(process, "lock", "acquire", (), acquire)
        if token is Lost.UNKNOWN:
            yield WalkAway()
            return
        if not _is_token(token):
            return
        yield Sleep(self._rng.uniform(0, 0.1))
        while self._is_in_session(process):  # Another one would end the task that it never had.
            ended = yield Ask(process, "lock", "release", (), EndTask(task))
            if ended is not Lost.UNKNOWN and ended is not Lost.NEVER_RAN:
                return
            yield Sleep(0.1)

    def _bounded(self, name: str) -> Script:
        process = self._new_process(name)
        acquire = Call(self._ids["bounded"], "acquire", name, codec.encode_arguments((), {}))
        granted = yield Ask(process, "bounded", "acquire", (), acquire, **self._patience())
        if granted is Lost.UNKNOWN:
            yield WalkAway()
        elif granted is True:
            yield Sleep(self._rng.uniform(0, 0.2))
            if self._is_in_session(process):
                release = Call(self._ids["bounded"], "release", name, codec.encode_arguments((), {}))
                released = yield Ask(process, "bounded", "release", (), release)
                if isinstance(released, Lost):
                    yield WalkAway()

    def _consume(self, name: str) -> Script:
        """Wait to be notified. Notified or not, the lock is ours again when the wait is over."""
        session = yield from self._enter(name)
        if session is None:
            return
        timeout_s = self._rng.choice((0.05, 0.3, 1.0))
        woken = yield self._call(name, "condition", "wait", timeout_s)
        yield from self._leave(name, session, woken)

    def _produce(self, name: str) -> Script:
        session = yield from self._enter(name)
        if session is None:
            return
        many = self._rng.random() < 0.3
        notified = yield self._call(name, "condition", "notify_all" if many else "notify")
        yield from self._leave(name, session, notified)

    def _enter(self, name: str) -> Any:
        """Take the condition's lock; the session that has it, None if it was not granted."""
        acquired = yield self._call(name, "condition", "acquire")
        if isinstance(acquired, Lost):
            yield WalkAway()
            return None
        return self._client.session_id

    def _leave(self, name: str, session: int, done: Any) -> Script:
        """Give up the condition's lock, which must be ours still if the session lives."""
        if isinstance(done, Lost):
            yield WalkAway()
            return
        released = yield self._call(name, "condition", "release")
        if isinstance(released, Lost):
            yield WalkAway()
        for result in (done, released):
            if isinstance(result, Raised) and self._client.session_id == session:
                raise Broken(ThreadingIsFaithful(), f"{name} held the condition's lock, and was told {result}")

    def _meet(self, name: str) -> Script:
        """Two at a barrier. Who finds it broken, or breaks it by losing patience, mends it."""
        met = yield self._call(name, "barrier", "wait", self._rng.choice((0.05, 0.3, 1.0)))
        if isinstance(met, Raised):
            yield self._call(name, "barrier", "reset")
        elif met is Lost.UNKNOWN:
            yield WalkAway()

    def _signal(self, name: str) -> Script:
        op = self._rng.choice(("set", "clear", "wait"))
        if op == "wait":
            command = Call(self._ids["event"], op, name, codec.encode_arguments((0.2,), {}))
            yield Ask(name, "event", op, (), command)
        else:
            yield self._call(name, "event", op)

    def _buffer(self, name: str) -> Script:
        """Put or take, and give up after a while: then it did not happen."""
        if self._rng.random() < 0.5:
            self._writes += 1
            item = f"{self._life}-{self._writes}"
            put = Call(self._ids["buffer"], "put", name, codec.encode_arguments((item,), {}))
            yield Ask(name, "buffer", "put", (item,), put, timeout_s=0.5)
        else:
            take = Call(self._ids["buffer"], "take", name, codec.encode_arguments((), {}))
            yield Ask(name, "buffer", "take", (), take, timeout_s=0.5)

    def _watch(self, name: str) -> Script:
        """Await the loss of whatever grant this process has at the moment, if it has one."""
        yield self._call(name, "news", "lost", of=self._rng.choice(("lock", "rlock")))

    def _is_in_session(self, process: str) -> bool:
        return self._record.acquisitions[process].session == self._client.session_id


def _is_token(result: Any) -> bool:
    return type(result) is int and result > 0
