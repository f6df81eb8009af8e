"""A log that is decided at once: entries in, replies out.

Two executors run side by side, and every reply of one must be a reply of the other: each test is also a test that the
state machine is deterministic.
"""

from __future__ import annotations

from typing import Any, NoReturn

from concoord_ray.rsm import codec, exceptions
from concoord_ray.rsm.calls import Applied
from concoord_ray.rsm.command import (
    Batch,
    Call,
    Command,
    Create,
    Entry,
    ObjectInfo,
    OpenSession,
    Outcome,
    Reply,
)
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.methods import method_flags
from concoord_ray.rsm.wire import decode_plain, decode_refusal, encode_message

SECOND_NS = 1_000_000_000


def no_handles(ensemble: str, object_id: int) -> NoReturn:
    raise AssertionError(f"object {object_id} of {ensemble} came back as a handle")


def result(reply: Reply) -> Any:
    """What a call returned."""
    if reply.outcome == Outcome.PLAIN:
        return decode_plain(reply.payload)
    assert reply.outcome == Outcome.VALUE, describe(reply)
    return codec.decode(reply.payload, no_handles)


def error(reply: Reply) -> BaseException:
    """What a call raised."""
    assert reply.outcome == Outcome.RAISED, describe(reply)
    return exceptions.decode_exception(reply.payload, no_handles)


def refused(reply: Reply) -> str:
    """With which error the ensemble refused."""
    assert reply.outcome == Outcome.REFUSED, describe(reply)
    return decode_refusal(reply.payload).error


def describe(reply: Reply) -> str:
    if reply.outcome in (Outcome.VALUE, Outcome.PLAIN):
        return f"value {result(reply)!r}"
    if reply.outcome == Outcome.RAISED:
        return f"raised {exceptions.decode_exception(reply.payload, no_handles)!r}"
    return f"refused {decode_refusal(reply.payload)}"


class Handle(codec.Reference):
    """Stands for an object among arguments, as a client's handle does."""

    def __init__(self, object_id: int, ensemble: str = "here") -> None:
        self._object_id = object_id
        self._ensemble = ensemble

    def concoord_reference(self) -> tuple[str, int]:
        return self._ensemble, self._object_id


class Log:
    """Decided slots, and the replies that came of them."""

    def __init__(self) -> None:
        self.executors = [Executor("here"), Executor("here")]
        self.time_ns = SECOND_NS
        self.applied = Applied()
        self._slot = 0
        self._nonce = 1000
        self._seqs: dict[int, int] = {}

    def decide(self, *entries: Entry) -> list[Reply]:
        """One slot."""
        batch = encode_message(Batch(self.time_ns, self.time_ns, entries, crowded=self.applied.crowded))
        outcomes = []
        for executor in self.executors:
            executor.apply(self._slot, batch)
            outcomes.append(executor.take_applied())
        self._slot += 1
        self.applied, other = outcomes
        assert self.applied == other
        return self.applied.replies

    def pass_time(self, seconds: float) -> list[Reply]:
        """Let the time pass, and an empty slot say so; returns the replies that it caused."""
        self.time_ns += round(seconds * SECOND_NS)
        return self.decide()

    def open(self, ttl_s: float = 10.0) -> Client:
        self._nonce += 1
        opening = Entry(0, self._nonce, (), encode_message(OpenSession(int(ttl_s * SECOND_NS), "a test")))
        (reply,) = self.decide(opening)
        return Client(self, result(reply))


class Client:
    """A session's side of the log."""

    def __init__(self, log: Log, session: int) -> None:
        self.log = log
        self.session = session
        self.seq = 0

    def entry(self, command: Command, *acks: tuple[int, int]) -> Entry:
        self.seq += 1
        return Entry(self.session, self.seq, acks, encode_message(command))

    def again(self, seq: int, command: Command, *acks: tuple[int, int]) -> Entry:
        return Entry(self.session, seq, acks, encode_message(command))

    def send(self, command: Command, *acks: tuple[int, int]) -> list[Reply]:
        """One command in a slot of its own; every reply that it caused, to whomever."""
        return self.log.decide(self.entry(command, *acks))

    def ask(self, command: Command, *acks: tuple[int, int]) -> Reply:
        """The reply to one command."""
        return self.only(self.send(command, *acks))

    def only(self, replies: list[Reply]) -> Reply:
        (reply,) = [r for r in replies if (r.session, r.seq) == (self.session, self.seq)]
        return reply

    def create(self, cls: type, *args: Any, name: str | None = None, **kwargs: Any) -> int:
        info = result(self.ask(creation(cls, *args, name=name, **kwargs)))
        assert isinstance(info, ObjectInfo)
        return info.object_id

    def call(self, object_id: int, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method that answers at once."""
        return result(self.ask(calling(object_id, method, *args, **kwargs)))

    def park(self, object_id: int, method: str, *args: Any, **kwargs: Any) -> int:
        """Call a method that parks; returns the seq."""
        assert self.send(calling(object_id, method, *args, **kwargs)) == []
        return self.seq

    def read(self, object_id: int, method: str, *args: Any, **kwargs: Any) -> Reply:
        command = encode_message(calling(object_id, method, *args, **kwargs))
        replies = [executor.read(Entry(self.session, -1, (), command)) for executor in self.log.executors]
        assert replies[0] == replies[1]
        return replies[0]


def creation(
    cls: type, *args: Any, name: str | None = None, get_if_exists: bool = False, owner: str = "main", **kwargs: Any
) -> Create:
    return Create(
        name,
        get_if_exists,
        class_id=cls.__qualname__.encode(),
        class_name=cls.__name__,
        cls=codec.encode(cls),
        methods=method_flags(cls),
        args=codec.encode_arguments(args, kwargs),
        owner=owner,
    )


def calling(object_id: int, method: str, *args: Any, owner: str = "main", **kwargs: Any) -> Call:
    return Call(object_id, method, owner, codec.encode_arguments(args, kwargs))
