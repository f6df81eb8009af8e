"""What users' code and strangers do wrong, on every path: a clear error to that caller, the same on every replica.

``tests/rsm/test_bad_input.py`` has the cases; here are those that a process on the way could fall over. In the end the
replicas must agree, and be the processes that they were.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import Handle, genesis
from concoord_ray.net.connection import Connection
from concoord_ray.net.dialer import Dialer
from concoord_ray.net.identity import Address, Identity
from concoord_ray.paxos.view import Member, Role
from concoord_ray.roles.boot import encode
from concoord_ray.rsm.command import Entry, KeepAlive, Read, Request
from tests.integration.agreement import assert_replicas_agree
from tests.integration.casualties import settled
from tests.integration.samples import Call, by_aio, by_remote, every_path

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ensemble")]


class NoAttributes(Exception):
    """Nothing can be asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise ZeroDivisionError(name)


class NoText(Exception):
    def __str__(self) -> str:
        raise LookupError("no text")

    __repr__ = __str__


class NoArgs(Exception):
    @property
    def args(self) -> Any:  # type: ignore[override]
        raise LookupError("no args")


class OddPickle(Exception):
    def __reduce__(self) -> Any:
        return int, ("not a number",)


class Opaque:
    """Neither."""

    def __getattribute__(self, name: str) -> Any:
        raise ZeroDivisionError(name)


class AnySay:
    """Has every attribute, and can be called."""

    def __getattr__(self, name: str) -> Any:
        return AnySay()

    def __call__(self, *_: Any) -> Any:
        return AnySay()


class MessState:
    def __init__(self) -> None:
        self.calls = 0
        self.other: Any = None

    def fail(self, kind: type[Exception]) -> NoReturn:
        self.calls += 1
        raise kind("on purpose")

    def fail_oddly(self) -> NoReturn:
        self.calls += 1
        error = SyntaxError("on purpose")
        error.text, error.lineno = 5, "none"  # type: ignore[assignment]
        raise error

    def give(self, kind: type) -> Any:
        self.calls += 1
        return kind()

    def nested(self, depth: int) -> Any:
        self.calls += 1
        made: list[Any] = []
        for _ in range(depth):
            made = [made]
        return made

    def large(self) -> int:
        self.calls += 1
        return 1 << (1 << 60)

    def dive(self, depth: int) -> int:
        """Leaves behind how deep it came."""
        self.calls += 1
        return self.dive(depth - 1) if depth else self.calls

    async def later(self) -> None:
        self.calls += 1

    def steps(self) -> Iterator[int]:
        self.calls += 1
        return (n for n in range(3))

    def keep(self, other: Any) -> None:
        self.other = other

    def give_kept(self) -> Any:
        return self.other

    @concoord.readonly
    def counted(self) -> int:
        return self.calls


Mess = concoord.replicated(determinism="ignore")(MessState)


@pytest.fixture(scope="module")
def mess(ensemble: concoord.Ensemble) -> Iterator[Handle[Any]]:
    """One object for all; when they are done, all replicas have the same of it, and are the same."""
    before = [replica.incarnation for replica in settled(ensemble.name).replicas]
    made: Handle[Any] = Mess.options(name="mess", ensemble=ensemble.name).remote()
    yield made
    assert [replica.incarnation for replica in settled(ensemble.name).replicas] == before
    assert_replicas_agree(ensemble.name)
    concoord.delete(made)


@every_path
@pytest.mark.parametrize("kind", [NoAttributes, NoText, NoArgs, OddPickle])
def test_an_exception_of_any_kind_reaches_its_caller_alone(
    call: Call, kind: type[Exception], mess: Handle[Any]
) -> None:
    before = call(mess.counted)
    told = error_of(call, mess.fail, kind)
    if kind is NoAttributes and call is by_remote:  # What Ray asks of an exception it does not say.
        assert told is ray.exceptions.UnserializableException
    else:
        assert kind in told.__mro__
    assert call(mess.counted) == before + 1


def error_of(call: Call, method: Any, *args: Any) -> type:
    """The type of what a call raises. It is caught at once: asyncio's own tasks do not get over some of these."""

    async def main() -> type:
        try:
            await method.aio(*args)
        except Exception as error:
            return type(error)
        raise AssertionError("nothing was raised")

    if call is by_aio:
        return asyncio.run(main())
    try:
        call(method, *args)
    except Exception as error:
        return type(error)
    raise AssertionError("nothing was raised")


@every_path
def test_one_with_impossible_attributes_does_too(call: Call, mess: Handle[Any]) -> None:
    with pytest.raises(SyntaxError):
        call(mess.fail_oddly)


@every_path
@pytest.mark.parametrize(
    ("method", "args", "said"),
    [
        ("give", (Opaque,), "cannot be pickled"),
        ("nested", (100_000,), "cannot be pickled"),
        ("later", (), "async"),
        ("steps", (), "cannot be pickled"),
    ],
)
def test_a_result_that_cannot_travel_is_told(
    call: Call, method: str, args: tuple[Any, ...], said: str, mess: Handle[Any]
) -> None:
    before = call(mess.counted)
    with pytest.raises(TypeError, match=said):
        call(getattr(mess, method), *args)
    assert call(mess.counted) == before + (method != "later")


@every_path
def test_more_memory_than_there_is_is_an_error_like_any_other(call: Call, mess: Handle[Any]) -> None:
    before = call(mess.counted)
    with pytest.raises((MemoryError, OverflowError)):
        call(mess.large)
    assert call(mess.counted) == before + 1


@every_path
def test_recursion_ends_at_the_same_depth_on_every_replica(call: Call, mess: Handle[Any]) -> None:
    """Also where shallow calls have proved to be quick, and are executed elsewhere than on the executor's thread."""
    for _ in range(40):
        mess.dive(1)
    before = call(mess.counted)
    with pytest.raises(RecursionError):
        call(mess.dive, 100_000)
    assert call(mess.counted) > before + 900
    assert_replicas_agree("default")


@every_path
def test_what_has_every_attribute_is_a_value_like_any_other(call: Call, mess: Handle[Any]) -> None:
    assert type(call(mess.give, AnySay)).__name__ == "AnySay"
    mess.keep(AnySay())
    assert type(call(mess.give_kept)).__name__ == "AnySay"


@every_path
def test_a_handle_is_no_result(call: Call, mess: Handle[Any]) -> None:
    """It arrives as the object itself, whose copy is of no use; but it harms nobody."""
    counter = concoord.Counter.remote(5)
    mess.keep(counter)
    copy = call(mess.give_kept)
    assert copy.increment() == 6
    assert counter.getvalue() == 5
    mess.keep(None)


class Talker:
    """A handler that says something as soon as it may."""

    def __init__(self, payloads: list[bytes]) -> None:
        self.payloads = payloads
        self.said = asyncio.Event()

    def opened(self, connection: Connection) -> None:
        for payload in self.payloads:
            connection.send(payload)
        connection.flush()
        self.said.set()

    def received(self, connection: Connection, payloads: list[bytes]) -> None:
        """See ``Handler``."""

    def closed(self, connection: Connection, error: Exception | None) -> None:
        """See ``Handler``."""


def test_nonsense_after_a_valid_handshake_harms_nobody(mess: Handle[Any]) -> None:
    plan = genesis.find_plan("default")
    assert plan is not None
    nonsense = [
        b"\xff" * 100,
        b"\xc1",
        b"\x93\x14\x00",
        b"\x80\x05K\x01.",
        secrets.token_bytes(4096),
        encode(Request(Entry(12345, 1, (), b"\xff\xff"))),
        encode(Request(Entry(0, 77, (), b""))),
        encode(Request(Entry(0, 0, ((5, 3), (1, 1 << 62)), secrets.token_bytes(64)))),
        encode(Read(Entry(0, -1, (), b"\xc1"))),
        encode(Read(Entry(1, -1, (), secrets.token_bytes(10)))),
        encode(KeepAlive(99, 0)),
    ]

    async def main() -> None:
        assert plan is not None
        status = settled("default")
        for role, members in ((Role.REPLICA, status.replicas), (Role.ACCEPTOR, status.acceptors)):
            for member in members:
                assert member.address is not None
                assert member.incarnation is not None
                talker = Talker(nonsense)
                stranger = Identity(plan.ensemble, Member(Role.CLIENT, 0, secrets.randbits(63)))
                expected = Member(role, member.index, member.incarnation)
                dialer = Dialer(stranger, plan.secret, plan.config, talker, expected)
                dialer.dial(Address(member.address.host, member.address.port))
                try:
                    await asyncio.wait_for(talker.said.wait(), 30)
                    await asyncio.sleep(0.1)
                finally:
                    dialer.close()
                    await dialer.wait_closed()

    before = [member.incarnation for member in settled("default").acceptors]
    asyncio.run(main())
    mess.counted()
    assert [member.incarnation for member in settled("default").acceptors] == before
