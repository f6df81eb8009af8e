"""Objects and their methods: whatever a method does, its caller gets an answer and the log moves on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from concoord_ray.objects.counter import Counter
from concoord_ray.objects.lock import Lock
from concoord_ray.rsm import codec, memory
from concoord_ray.rsm.command import (
    Call,
    Command,
    Create,
    Delete,
    Entry,
    ListObjects,
    Lookup,
    MethodFlag,
    ObjectInfo,
    Reply,
)
from concoord_ray.rsm.context import Scope
from concoord_ray.rsm.methods import method_flags
from concoord_ray.rsm.objects import raised, value
from concoord_ray.rsm.wire import decode_refusal, encode_message
from tests.rsm.log import Handle, Log, calling, creation, error, no_handles, refused, result
from tests.rsm.samples import Blocker, Huge, Register


def read(log: Log, command: Command) -> Any:
    return log.executors[0].read(Entry(1, -1, (), encode_message(command)))


# Names and ids.


def test_an_object_is_found_by_its_name_until_it_is_deleted() -> None:
    log = Log()
    client = log.open()
    counter = client.create(Counter, 5, name="hits")
    assert result(read(log, Lookup("hits"))) == ObjectInfo(counter, "hits", "Counter", method_flags(Counter))
    client.send(Delete(counter))
    assert refused(read(log, Lookup("hits"))) == "NoSuchObject"
    assert client.create(Counter, name="hits") > counter


def test_a_name_is_given_once() -> None:
    log = Log()
    client = log.open()
    counter = client.create(Counter, 5, name="hits")
    assert refused(client.ask(creation(Counter, name="hits"))) == "ObjectExists"
    info = result(client.ask(creation(Counter, 99, name="hits", get_if_exists=True)))
    assert info.object_id == counter
    assert client.call(counter, "increment") == 6


def test_a_name_is_shared_by_versions_of_one_class_and_by_no_other_class() -> None:
    log = Log()
    client = log.open()
    client.create(Counter, 5, name="hits")

    def ask(origin: str) -> Reply:
        asked = creation(Lock, name="hits", get_if_exists=True)
        return client.ask(msgspec.structs.replace(asked, class_id=b"another version", origin=origin))

    module = Counter.__module__
    for same in (f"{module}.Counter", "__main__.Counter", ""):
        assert result(ask(same)).class_name == "Counter"
    for other in (f"{module}.Lock", "elsewhere.Counter", "__main__.Lock", f"{module}.Outer.Counter", "Counter"):
        reply = ask(other)
        assert refused(reply) == "ObjectExists"
        assert f"'hits' is a {module}.Counter, not a {other}" in decode_refusal(reply.payload).message
    client.send(Delete(1))
    assert result(ask(f"{module}.Lock")).class_name == "Lock"


def test_named_objects_are_listed_in_the_order_of_their_creation() -> None:
    log = Log()
    client = log.open()
    first = client.create(Counter, name="b")
    client.create(Counter, name="a")
    client.create(Counter)
    client.send(Delete(first))
    client.create(Counter, name="b")
    assert [info.name for info in result(read(log, ListObjects()))] == ["a", "b"]


def test_an_id_is_never_used_twice() -> None:
    log = Log()
    client = log.open()
    seen = set()
    for _ in range(3):
        one = client.create(Counter)
        assert error(client.ask(creation(Register, "fail"))).args == ("no such register",)
        client.send(Delete(one))
        seen.add(one)
    assert len(seen) == 3


def test_a_constructor_that_raises_leaves_no_object() -> None:
    log = Log()
    client = log.open()
    raised = error(client.ask(creation(Register, "fail", name="r")))
    assert type(raised) is ValueError
    assert refused(read(log, Lookup("r"))) == "NoSuchObject"
    client.create(Register, name="r")


def test_a_constructor_cannot_wait() -> None:
    log = Log()
    client = log.open()
    reply = client.ask(creation(Blocker, wait=True, name="b"))
    assert type(error(reply)) is RuntimeError
    assert refused(read(log, Lookup("b"))) == "NoSuchObject"
    assert log.executors[0]._sessions[client.session].parked == {}


def test_a_class_that_cannot_be_decoded_is_an_error() -> None:
    log = Log()
    client = log.open()
    assert error(client.ask(Create("x", False, b"id", "X", b"no pickle", {}, b"", "main"))).args
    client.create(Counter, name="x")


def test_a_class_goes_with_its_last_object() -> None:
    log = Log()
    client = log.open()
    one, other = client.create(Counter), client.create(Counter)
    table = log.executors[0]._objects
    client.send(Delete(one))
    assert len(table._classes) == 1
    client.send(Delete(other))
    assert table._classes == {}


# Arguments.


def test_a_handle_among_the_arguments_is_the_object_itself() -> None:
    log = Log()
    client, other = log.open(), log.open()
    lock = client.create(Lock)
    one, two = client.create(Blocker, Handle(lock)), client.create(Blocker, Handle(lock))
    client.call(one, "acquire")
    assert result(client.read(lock, "locked")) is True
    other.park(two, "acquire")
    assert [r.session for r in client.send(calling(lock, "release"))] == [other.session, client.session]


def test_a_handle_of_what_is_gone_or_elsewhere_is_an_error() -> None:
    log = Log()
    client = log.open()
    assert type(error(client.ask(creation(Blocker, Handle(77))))).__name__ == "NoSuchObject"
    assert type(error(client.ask(creation(Blocker, Handle(1, "elsewhere"))))) is ValueError


def test_arguments_that_cannot_be_decoded_are_an_error() -> None:
    log = Log()
    client = log.open()
    register = client.create(Register)
    reply = client.ask(Call(register, "append", "main", b"\x80nonsense"))
    assert reply.outcome.name == "RAISED"
    assert client.call(register, "append", 1) == 1


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2), {}), ((1,), {"a": 2}), (([],), {}), (((),), {"x": None})]
)
def test_arguments_survive_the_journey(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert codec.decode_arguments(codec.encode_arguments(args, kwargs), no_handles, codec.Types()) == (args, kwargs)


def test_a_method_knows_its_caller() -> None:
    log = Log()
    client = log.open()
    register = client.create(Register)
    assert client.call(register, "who", owner="thread 7") == (client.session, "thread 7")


# What methods may do wrong.


def test_what_a_method_changed_before_it_raised_stays_changed() -> None:
    log = Log()
    client = log.open()
    register = client.create(Register)
    raised = error(client.ask(calling(register, "append_and_raise", "x")))
    assert type(raised) is KeyError
    assert raised.args == ("x",)
    assert result(client.read(register, "get")) == ["x"]


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("exit", "RuntimeError"),
        ("raise_unprintable", "Unprintable"),
        ("raise_with_unpicklable", "ValueError"),
        ("give_function", "TypeError"),
        ("give_unpicklable", "TypeError"),
        ("raise_surrogate", "ValueError"),
    ],
)
def test_nothing_that_a_method_raises_or_returns_stops_the_log(method: str, name: str) -> None:
    log = Log()
    client = log.open()
    register = client.create(Register)
    assert type(error(client.ask(calling(register, method)))).__name__ == name
    assert client.call(register, "append", "after") == 1


@pytest.mark.parametrize("text", ["plain", "\ud800", "a file called \udcff"])
def test_any_text_can_be_returned(text: str) -> None:
    log = Log()
    client = log.open()
    register = client.create(Register)
    assert client.call(register, "echo", text) == text


@pytest.mark.parametrize("number", [0, 2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1, 10**40, float("-inf"), True])
def test_any_number_can_be_returned(number: float) -> None:
    log = Log()
    client = log.open()
    register = client.create(Register)
    returned = client.call(register, "echo", number)
    assert returned == number
    assert type(returned) is type(number)


def test_a_replica_that_is_out_of_memory_stops_rather_than_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others may have had enough."""
    monkeypatch.setattr(memory, "has_memory", lambda: False)
    log = Log()
    client = log.open()
    register = client.create(Register)
    with pytest.raises(MemoryError):
        client.send(calling(register, "run_out_of_memory"))


@pytest.mark.parametrize("attempt", ["result", "error"])
def test_running_out_of_memory_while_answering_is_no_answer_either(
    attempt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "has_memory", lambda: False)
    with pytest.raises(MemoryError):
        value(Huge()) if attempt == "result" else raised(ValueError(Huge()))


# What blocking methods may do wrong.


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("forget_to_return", RuntimeError),
        ("block_twice", RuntimeError),
        ("pretend", RuntimeError),
        ("raise_after_parking", ValueError),
    ],
)
def test_a_method_that_blocks_wrongly_is_told_so_and_waits_for_nothing(method: str, kind: type[Exception]) -> None:
    log = Log()
    client = log.open()
    blocker = client.create(Blocker)
    assert type(error(client.ask(calling(blocker, method)))) is kind
    assert client.send(calling(blocker, "put_permit"))[0].seq == client.seq
    assert result(client.read(blocker, "describe")) == "<DLock unlocked> <DSemaphore count=1>"


def test_a_call_that_wakes_itself_has_one_answer() -> None:
    log = Log()
    client = log.open()
    blocker = client.create(Blocker)
    once = client.entry(calling(blocker, "wake_myself"))
    (reply,) = log.decide(once)
    assert result(reply) is True
    assert log.decide(once) == [reply]


@pytest.mark.parametrize("state", ["free", "taken"])
@pytest.mark.parametrize("method", ["acquire_in_read", "release_in_read", "take_permit_in_read", "put_permit_in_read"])
def test_a_read_changes_no_primitive(method: str, state: str) -> None:
    """It runs on one replica alone: whatever it changed would be changed nowhere else."""
    log = Log()
    client = log.open()
    blocker = client.create(Blocker)
    client.call(blocker, "put_permit")
    if state == "taken":
        client.call(blocker, "acquire")
        client.call(blocker, "take_permit")
    before = result(client.read(blocker, "describe"))
    reply = client.read(blocker, method)
    assert isinstance(error(reply), (TypeError, RuntimeError))
    assert result(client.read(blocker, "describe")) == before
    session = log.executors[0]._sessions[client.session]
    held = session.holdings.get(Scope(client.session, ""), ())
    assert len(held) == (2 if state == "taken" else 0)


def test_what_is_not_readonly_cannot_be_read() -> None:
    log = Log()
    client = log.open()
    counter = client.create(Counter)
    assert refused(client.read(counter, "increment")) == "ProtocolViolation"
    assert result(client.read(counter, "getvalue")) == 0
    assert refused(read(log, Delete(counter))) == "ProtocolViolation"


def test_a_read_of_what_is_not_there_says_so() -> None:
    log = Log()
    client = log.open()
    counter = client.create(Counter)
    assert refused(client.read(77, "getvalue")) == "NoSuchObject"
    assert type(error(client.read(counter, "nope"))) is AttributeError


def test_a_method_is_known_for_what_it_is() -> None:
    assert method_flags(Register)["get"] == MethodFlag.READONLY
    assert method_flags(Register)["append"] == MethodFlag.PLAIN
    assert method_flags(Blocker)["acquire"] == MethodFlag.TAKES_COMMAND | MethodFlag.PARKS
    assert method_flags(Blocker)["pretend"] == MethodFlag.PARKS
    assert not any(name.startswith("_") for name in method_flags(Register))
