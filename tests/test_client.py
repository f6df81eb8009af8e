"""Calls whose callers are cancelled, interrupted or destroyed when the answer is here; and calls that come too late."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator

import pytest

from concoord_ray.client import Client
from concoord_ray.errors import SessionExpired
from concoord_ray.paxos.view import Role
from concoord_ray.roles.caller import Caller
from concoord_ray.roles.calls import BlockingCall, PendingCall
from concoord_ray.rsm.command import Call, ListObjects, MethodFlag, Outcome, Reply
from concoord_ray.rsm.wire import encode_plain
from tests.roles.conftest import NoDiscovery, boot

PATIENCE_S = 20.0
ACQUIRE = Call(1, "acquire", "1", b"")


class Answering:
    """In place of ``Caller``'s steps: every call is answered at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answered: queue.Queue[PendingCall] = queue.Queue()
        self.cancelled: queue.Queue[PendingCall] = queue.Queue()
        monkeypatch.setattr(Caller, "begin", lambda _, call: self.begin(call))
        monkeypatch.setattr(Caller, "cancel", lambda _, call: self.cancelled.put(call))

    def begin(self, call: PendingCall) -> None:
        call.end(Reply(7, 1, Outcome.PLAIN, encode_plain(True)))
        self.answered.put(call)


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client(boot(Role.CLIENT), NoDiscovery(), "a test")
    made.start()
    yield made
    made.close()


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Answering:
    return Answering(monkeypatch)


def test_an_await_that_is_cancelled_when_its_answer_is_here_is_withdrawn(client: Client, answering: Answering) -> None:
    async def main() -> None:
        task = asyncio.create_task(client.call_async(ACQUIRE, flags=MethodFlag.PARKS))
        await asyncio.sleep(0)
        call = answering.answered.get(timeout=PATIENCE_S)  # This loop does not get to see it.
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert answering.cancelled.get(timeout=PATIENCE_S) is call

    asyncio.run(main())


def test_a_wait_that_is_interrupted_when_its_answer_is_here_is_withdrawn(
    client: Client, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = BlockingCall.wait

    def interrupted(call: BlockingCall, timeout_s: float | None) -> bool:
        assert wait(call, timeout_s)
        raise KeyboardInterrupt

    monkeypatch.setattr(BlockingCall, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.call(ACQUIRE, flags=MethodFlag.PARKS)
    assert answering.cancelled.get(timeout=PATIENCE_S) is answering.answered.get()


def test_who_is_interrupted_while_it_hands_over_a_call_withdraws_it(
    client: Client, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = client._begin

    def interrupted(call: PendingCall) -> None:
        begin(call)
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "_begin", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.call(ACQUIRE, flags=MethodFlag.PARKS)
    assert answering.cancelled.get(timeout=PATIENCE_S) is answering.answered.get(timeout=PATIENCE_S)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(client.call_async(ACQUIRE, flags=MethodFlag.PARKS))
    assert answering.cancelled.get(timeout=PATIENCE_S) is answering.answered.get(timeout=PATIENCE_S)


def test_a_call_that_never_began_is_withdrawn_without_effect(client: Client) -> None:
    never = BlockingCall(ACQUIRE, False, MethodFlag.PARKS)
    client._leave(never)
    known = threading.Event()
    client._hand_over(lambda _: known.set(), None)
    assert known.wait(PATIENCE_S)
    assert never.ending is None
    assert client._thread.is_alive()
    assert not client.is_closed


def test_what_ends_it_twice_in_a_row_lets_its_thread_end_as_it_should(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``close`` does when Ray is shut down at that moment."""
    died: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda hooked: died.append(hooked.exc_value))

    def end() -> None:
        client._stop()
        client._loop.call_soon(client._stop)

    client._loop.call_soon_threadsafe(end)
    client._thread.join(PATIENCE_S)
    assert died == []
    assert client._loop.is_closed()


def test_a_coroutine_that_is_destroyed_when_its_answer_is_here_is_withdrawn(
    client: Client, answering: Answering
) -> None:
    async def main() -> None:
        coroutine = client.call_async(ACQUIRE, flags=MethodFlag.PARKS)
        coroutine.send(None)
        call = answering.answered.get(timeout=PATIENCE_S)
        coroutine.close()
        assert answering.cancelled.get(timeout=PATIENCE_S) is call

    asyncio.run(main())


def test_what_has_been_taken_is_not_withdrawn(client: Client, answering: Answering) -> None:
    assert client.call(ACQUIRE, flags=MethodFlag.PARKS) is True
    assert asyncio.run(client.call_async(ACQUIRE, flags=MethodFlag.PARKS)) is True
    client.close()
    assert answering.cancelled.empty()
    assert all(answering.answered.get().is_settled for _ in range(2))


def test_who_hands_over_a_call_when_the_loop_has_ended_is_told_so(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other threads, which have looked before whether it is closed."""
    first, second = BlockingCall(ListObjects(), True), BlockingCall(ListObjects(), True)
    abandon, is_last = client._abandon, threading.Event()

    def abandoned() -> None:
        abandon()
        if is_last.is_set():
            client._hand_over(client._caller.begin, first)
        is_last.set()

    monkeypatch.setattr(client, "_abandon", abandoned)
    client.close()
    client._thread.join(PATIENCE_S)
    client._hand_over(client._caller.begin, second)
    for call in (first, second):
        assert call.wait(PATIENCE_S)
        with pytest.raises(SessionExpired):
            call.result()
