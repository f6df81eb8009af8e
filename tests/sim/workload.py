"""What the simulated clients do, and what is remembered of it for the judgement at the end.

A client runs several threads at once. Each is a generator that yields what it waits for: a ``Sleep``, an ``Ask`` of the
ensemble, or a ``WalkAway`` that ends the client's session with whatever it holds.
"""

from __future__ import annotations

import functools
import pickle
import random
from collections.abc import Callable, Container, Generator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, Union

from concoord_ray.answers import unpack
from concoord_ray.errors import (
    CallCancelled,
    CallTimeout,
    ConcoordError,
    OutcomeUnknown,
    Overloaded,
    QuorumLost,
    SessionExpired,
)
from concoord_ray.objects.counter import Counter
from concoord_ray.objects.lock import Lock
from concoord_ray.objects.semaphore import Semaphore
from concoord_ray.rsm import codec
from concoord_ray.rsm.command import Call, Command, Create, Delete, Lookup, ObjectInfo
from concoord_ray.rsm.methods import method_flags
from concoord_ray.session import Ending
from tests.sim.client import ClientShell, SimulatedCall
from tests.sim.clock import Scheduler
from tests.sim.history import UNKNOWN, History, Operation, Raised
from tests.sim.register import Register

PERMITS = 2
OBJECTS: tuple[tuple[str, type, tuple[Any, ...]], ...] = (
    ("counter", Counter, ()),
    ("register", Register, ()),
    ("lock", Lock, ()),
    ("semaphore", Semaphore, (PERMITS,)),
)


class Lost(Enum):
    """A call that gave no result."""

    #: It certainly had no effect.
    NEVER_RAN = "never ran"
    #: As above, and what the session held is free.
    EXPIRED = "expired"
    #: The caller withdrew it; if it was granted something, that was given back.
    WITHDRAWN = "withdrawn"
    #: It may have had its effect, or may have it yet.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Sleep:
    """Think, or hold something, for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Ask:
    """Call the ensemble. ``object`` and ``op`` with ``args`` is what goes into the history."""

    process: str
    object: str
    op: str
    args: tuple[Any, ...]
    command: Command
    readonly: bool = False
    #: Its own timeout: it ends with CallTimeout if it can be withdrawn by then, else with its result.
    timeout_s: float | None = None
    #: Cancel it if it has not ended by then, and go on without waiting.
    cancel_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class WalkAway:
    """End the session."""


Step = Union[Sleep, Ask, WalkAway]
Script = Generator[Step, Any, None]


@functools.cache
def _create(cls: type, name: str, get_if_exists: bool, *args: Any) -> Create:
    by_reference = pickle.dumps(cls)  # By value, cloudpickle gives a class another id in every process.
    return Create(
        name, get_if_exists, cls.__name__.encode(), cls.__name__, by_reference, method_flags(cls),
        codec.encode_arguments(args, {}), "main",
    )  # fmt: skip


@dataclass(slots=True)
class Acquisition:
    """An acquire that was, or may have been, granted."""

    object: str
    process: str
    call: SimulatedCall
    invoked_ns: int
    #: What was answered: the token, True, or None while it is not known.
    grant: int | None = None
    granted_ns: int | None = None
    released_ns: int | None = None
    is_withdrawn: bool = False
    is_released: bool = False

    @property
    def session(self) -> int:
        """In which session it was sent; 0 if it was not."""
        return 0 if self.call.entry is None else self.call.entry.session


@dataclass(slots=True)
class Record:
    """Everything that the clients saw."""

    history: History = field(default_factory=History)
    acquisitions: dict[str, Acquisition] = field(default_factory=dict)
    calls: int = 0
    lost: dict[str, int] = field(default_factory=dict)

    def operations(self, ended_sessions: Container[int]) -> list[Operation]:
        """The history, with what the ensemble itself released: grants taken back, and those of ended sessions."""
        taken_back = [
            Operation(each.process, each.object, "release", (), each.invoked_ns + 1, None, UNKNOWN)
            for each in self.acquisitions.values()
            if each.is_withdrawn or (each.session in ended_sessions and not each.is_released)
        ]
        return [*self.history.operations(), *taken_back]


class Environment(Protocol):
    """What threads need to know of the run around them."""

    @property
    def scheduler(self) -> Scheduler: ...

    @property
    def is_winding_down(self) -> bool:
        """Whether to finish what was begun, and begin nothing new."""


class Thread:
    """One thread of one client process."""

    def __init__(self, name: str, client: ClientShell, environment: Environment, record: Record) -> None:
        self.name = name
        self.is_done = False
        #: What it waits for, for reports.
        self.waits_for: Step | None = None
        self._client = client
        self._environment = environment
        self._record = record
        self._script: Script | None = None

    def start(self, script: Script) -> None:
        self._script = script
        self._go_on(None)

    def _go_on(self, result: Any) -> None:
        assert self._script is not None
        try:
            step = self._script.send(result)
        except StopIteration:
            self.is_done, self.waits_for = True, None
            return
        self.waits_for = step
        if isinstance(step, Sleep):
            self._client.host.after(step.seconds, lambda: self._go_on(None))
        elif isinstance(step, WalkAway):
            if not self._client.close(self._go_on):
                self._client.host.after(0.01, lambda: self._go_on(None))
        else:
            self._ask(step)

    def _ask(self, ask: Ask) -> None:
        record, now_ns = self._record, self._environment.scheduler.now_ns
        record.calls += 1
        number = record.history.invoke(ask.process, ask.object, ask.op, ask.args, now_ns)
        call = SimulatedCall(ask.command, ask.readonly, lambda ending: self._answered(ask, call, number, ending))
        if ask.op == "acquire":
            record.acquisitions[ask.process] = Acquisition(ask.object, ask.process, call, now_ns)
        elif ask.op == "release" and ask.process in record.acquisitions:
            acquisition = record.acquisitions[ask.process]
            acquisition.released_ns = acquisition.released_ns or now_ns
        if ask.timeout_s is not None:
            self._client.host.after(ask.timeout_s, lambda: self._time_out(ask, call))
        if ask.cancel_after_s is not None:
            self._client.host.after(ask.cancel_after_s, lambda: self._cancel(ask, call))
        self._client.begin(call)

    def _time_out(self, ask: Ask, call: SimulatedCall) -> None:
        """Withdraw it and wait for the end of the one or the other, but not for ever."""
        if call.ending is None:
            self._client.time_out(call)
            self._client.host.after(self._client.withdrawal_grace_s, lambda: self._cancel(ask, call))

    def _cancel(self, ask: Ask, call: SimulatedCall) -> None:
        """Cancel it and forget it: what comes of it nobody reads."""
        if call.ending is not None:
            return
        call.is_abandoned = True
        if ask.op == "acquire":
            self._record.acquisitions[ask.process].is_withdrawn = True  # It may be granted for a while.
        self._record.lost[Lost.WITHDRAWN.value] = self._record.lost.get(Lost.WITHDRAWN.value, 0) + 1
        self._client.cancel(call)
        self._client.host.after(0, lambda: self._go_on(Lost.WITHDRAWN))

    def _answered(self, ask: Ask, call: SimulatedCall, number: int, ending: Ending) -> None:
        if call.is_abandoned:
            return
        now_ns = self._environment.scheduler.now_ns
        result = _result_of(ending)
        if ask.op == "acquire" and result == 0:
            result = False  # No token.
        acquisition = self._record.acquisitions.get(ask.process)
        if isinstance(result, Lost):
            self._record.lost[result.value] = self._record.lost.get(result.value, 0) + 1
            if result is not Lost.UNKNOWN:
                self._record.history.dropped(number)
        else:
            if ask.op == "acquire" and acquisition is not None and result is not False:
                acquisition.grant, acquisition.granted_ns = result, now_ns
            elif ask.op == "release" and acquisition is not None and not isinstance(result, Raised):
                acquisition.is_released = True
            self._record.history.returned(number, result, now_ns)
        # Not at once: what follows is another step of the process.
        self._client.host.after(0, lambda: self._go_on(result))


def _result_of(ending: Ending) -> Any:
    try:
        value = unpack(ending)
    except ConcoordError as error:
        lost = _lost(error)
        return Raised(type(error).__name__) if lost is None else lost
    except Exception as error:  # What the method raised.
        return Raised(type(error).__name__)
    return value.object_id if isinstance(value, ObjectInfo) else value


def _lost(error: ConcoordError) -> Lost | None:
    if isinstance(error, OutcomeUnknown):
        return Lost.UNKNOWN
    if isinstance(error, SessionExpired):
        return Lost.EXPIRED
    if isinstance(error, (CallCancelled, CallTimeout)):
        return Lost.WITHDRAWN
    return Lost.NEVER_RAN if isinstance(error, (QuorumLost, Overloaded)) else None


class Scripts:
    """What the threads of one client do, drawn at random."""

    objects: tuple[tuple[str, type, tuple[Any, ...]], ...] = OBJECTS
    #: How many of the threads only read.
    readers = 0.2

    def __init__(
        self, life: str, client: ClientShell, environment: Environment, record: Record, rng: random.Random,
        think_max_s: float,
    ) -> None:  # fmt: skip
        self._life = life
        self._client = client
        self._environment = environment
        self._record = record
        self._rng = rng
        self._think_max_s = think_max_s
        self._grants = 0
        self._writes = 0
        self._ids: dict[str, int] = {}

    def thread(self, name: str) -> Script:
        """Find the objects, then use them until the run winds down."""
        for object_name, cls, args in self.objects:
            yield from self._find(name, object_name, cls, args)
        uses = self._uses()
        if self._rng.random() < self.readers:
            yield from self._only_read(name)
        while not self._environment.is_winding_down:
            use = self._rng.choices([use for use, _ in uses], [weight for _, weight in uses])[0]
            yield from use(name)
            yield Sleep(self._rng.uniform(0, self._think_max_s))

    def audit(self, name: str) -> Script:
        """After everything has come to rest: the final state, as any client would read it."""
        for object_name, cls, args in self.objects:
            yield from self._find(name, object_name, cls, args)
        yield from self._final_state(name)

    def _uses(self) -> list[tuple[Callable[[str], Script], int]]:
        """What a thread may do next, and how often it does."""
        return [
            (self._count, 5),
            (self._write, 3),
            (self._lock, 4),
            (self._semaphore, 3),
            (self._come_and_go, 2),
        ]

    def _final_state(self, name: str) -> Script:
        yield self._call(name, "counter", "getvalue", readonly=True)
        yield self._call(name, "register", "read", readonly=True)
        yield self._call(name, "lock state", "locked", of="lock", readonly=True)
        yield self._call(name, "semaphore state", "describe", of="semaphore", readonly=True)

    def _only_read(self, name: str) -> Script:
        """Nothing that it does can get stuck at a leader without a majority but what must: a stale read shows here."""
        while not self._environment.is_winding_down:
            what, op = self._rng.choice((("counter", "getvalue"), ("register", "read")))
            yield self._call(name, what, op, readonly=True)
            yield Sleep(self._rng.uniform(0, 0.06))

    def _find(self, name: str, object_name: str, cls: type, args: tuple[Any, ...]) -> Script:
        while object_name not in self._ids:
            found = yield Ask(name, f"name {object_name}", "create", (True,), _create(cls, object_name, True, *args))
            if isinstance(found, int):
                self._ids[object_name] = found
            else:
                yield Sleep(0.1)

    def _count(self, name: str) -> Script:
        if self._rng.random() < 0.4:
            yield self._call(name, "counter", "getvalue", readonly=True)
        else:
            by = self._rng.choice((1, 1, 2, 3))
            yield self._call(name, "counter", "increment", by)

    def _write(self, name: str) -> Script:
        choice = self._rng.random()
        if choice < 0.5:
            self._writes += 1
            yield self._call(name, "register", "write", f"{self._life}-{self._writes}")
        else:
            value = yield self._call(name, "register", "read", readonly=True)
            if choice < 0.7 and not isinstance(value, Lost):
                self._writes += 1
                yield self._call(name, "register", "cas", value, f"{self._life}-{self._writes}")

    def _lock(self, name: str) -> Script:
        process = self._new_process(name)
        keywords = self._rng.choice(({}, {}, {"timeout": 0.2}, {"timeout": 1.0}, {"blocking": False}))
        arguments = codec.encode_arguments((), keywords)
        command = Call(self._ids["lock"], "acquire_fenced", name, arguments)
        token = yield Ask(process, "lock", "acquire", (), command, **self._patience())
        if token is Lost.UNKNOWN:
            yield WalkAway()
        elif isinstance(token, int) and token is not False:
            yield Sleep(self._rng.uniform(0, 0.15))
            yield from self._release(name, process, "lock", (token,))

    def _semaphore(self, name: str) -> Script:
        process = self._new_process(name)
        keywords = self._rng.choice(({}, {}, {"timeout": 0.2}, {"timeout": 1.0}, {"blocking": False}))
        arguments = codec.encode_arguments((), keywords)
        command = Call(self._ids["semaphore"], "acquire", name, arguments)
        granted = yield Ask(process, "semaphore", "acquire", (), command, **self._patience())
        if granted is Lost.UNKNOWN:
            yield WalkAway()
        elif granted is True:
            yield Sleep(self._rng.uniform(0, 0.2))
            if self._record.acquisitions[process].session == self._client.session_id:  # Else it was given back.
                yield from self._release(name, process, "semaphore", ())

    def _release(self, name: str, process: str, object_name: str, args: tuple[Any, ...]) -> Script:
        if self._rng.random() < 0.05:
            yield WalkAway()
            return
        while True:
            command = Call(self._ids[object_name], "release", name, codec.encode_arguments(args, {}))
            released = yield Ask(process, object_name, "release", (), command)
            if released is Lost.UNKNOWN and object_name == "semaphore":
                yield WalkAway()  # To release once more could free another's permit.
                return
            if released is not Lost.UNKNOWN and released is not Lost.NEVER_RAN:
                return
            yield Sleep(0.1)

    def _come_and_go(self, name: str) -> Script:
        """An object that is created, found, used and deleted by anyone."""
        object_name = self._rng.choice(("this", "that"))
        place, choice = f"name {object_name}", self._rng.random()
        if choice < 0.3:
            found = yield Ask(name, place, "lookup", (), Lookup(object_name), readonly=True)
        else:
            get_if_exists = choice < 0.8
            create = _create(Counter, object_name, get_if_exists)
            found = yield Ask(name, place, "create", (get_if_exists,), create)
        if isinstance(found, int):
            yield Ask(name, "passing objects", "increment", (), Call(found, "increment", name, b""))
            if self._rng.random() < 0.5:
                yield Ask(name, place, "delete", (found,), Delete(found))

    def _call(self, name: str, what: str, op: str, *args: Any, of: str | None = None, readonly: bool = False) -> Ask:
        command = Call(self._ids[of or what], op, name, codec.encode_arguments(args, {}))
        return Ask(name, what, op, args, command, readonly)

    def _new_process(self, name: str) -> str:
        """In the history every acquire is a process of its own: whoever got this grant must release it."""
        self._grants += 1
        return f"{name} grant {self._grants}"

    def _patience(self) -> dict[str, Any]:
        choice = self._rng.random()
        if choice < 0.6:
            return {}
        seconds = self._rng.choice((0.005, 0.05, 0.3))
        return {"timeout_s": seconds} if choice < 0.8 else {"cancel_after_s": seconds}
