"""Whatever goes wrong in a role ends it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from concoord_ray.client import Client
from concoord_ray.config import Config
from concoord_ray.directory import Directory, MemberReport, Report
from concoord_ray.errors import OutcomeUnknown, StorageFailed
from concoord_ray.net.identity import Address
from concoord_ray.paxos.outputs import Decided
from concoord_ray.paxos.view import Member, Role
from concoord_ray.roles import lane as lanes
from concoord_ray.roles import node as nodes
from concoord_ray.roles.boot import Whereabouts, WireMessage, encode
from concoord_ray.roles.calls import PendingCall
from concoord_ray.roles.child import Child
from concoord_ray.roles.fail_stop import FailStop
from concoord_ray.roles.lane import Lane
from concoord_ray.roles.node import Node
from concoord_ray.roles.replica import ReplicaRole
from concoord_ray.rsm.command import Cancel, Leading
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.rope import Rope
from concoord_ray.rsm.wire import NOOP
from tests.roles.conftest import LEADER, NoDiscovery, Sent, boot

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

HERE = Whereabouts("127.0.0.1", "a node", 1)
PEER = Member(Role.ACCEPTOR, 0, 7)
PATIENCE_S = 10.0


class Bug(Exception):
    """What nobody thought of."""


class Fragile:
    """Implements ``roles.node.NodeOwner``: fails in one of its steps."""

    def __init__(self, where: str) -> None:
        self._where = where
        self.steps: list[str] = []
        self.faults: list[BaseException] = []

    def receive(self, source: Member, messages: list[WireMessage]) -> None:
        self._step("receive")

    def connected(self, member: Member) -> None:
        self._step("connected")

    def disconnected(self, member: Member) -> None:
        self._step("disconnected")

    def directory_changed(self, directory: Directory) -> None:
        self._step("directory_changed")

    def tick(self, now_s: float) -> None:
        self._step("tick")

    def report(self, report: MemberReport) -> MemberReport:
        return report

    def broken(self, error: BaseException) -> None:
        self.faults.append(error)

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name == self._where:
            raise Bug(name)


@pytest.mark.parametrize("where", ["connected", "receive", "directory_changed", "disconnected", "tick"])
def test_a_step_that_fails_is_the_last(where: str) -> None:
    """Whatever it was that the role was told."""

    async def scenario() -> None:
        it = boot(Role.REPLICA, tick_interval_s=0.01)
        node = Node(it, HERE, NoDiscovery(), owner, tick_interval_s=it.config.tick_interval_s)
        if where == "tick":
            await node.start()
            await until(lambda: bool(owner.faults))
        for _ in range(2):
            node.link_opened(PEER)
            node.link_received(PEER, [encode(Leading())])
            node.link_received(PEER, [encode(Directory(()))])
            node.link_has_room(lambda: owner.tick(0.0))
            node.link_closed(PEER)
        await node.stop()

    owner = Fragile(where)
    asyncio.run(scenario())
    assert [str(fault) for fault in owner.faults] == [where]
    assert owner.steps.count(where) == 1
    assert owner.steps[-1] == where


def test_what_cannot_be_decoded_is_dropped_and_the_role_goes_on() -> None:
    report = encode(Report(MemberReport(PEER, Address("a host", 1), "a node", 1)))
    nonsense = [b"", b"\xc1", b"\x91" * 200_000, report.replace(b"a host", b"a\xffhost")]

    async def scenario() -> None:
        node = Node(boot(Role.REPLICA), HERE, NoDiscovery(), owner)
        for payload in nonsense:
            node.link_received(PEER, [payload, encode(Leading())])
        await node.stop()

    owner = Fragile("nowhere")
    asyncio.run(scenario())
    assert not owner.faults
    assert owner.steps == ["receive"] * len(nonsense)


def test_work_in_the_background_that_fails_ends_the_role_and_what_is_cancelled_has_not_failed() -> None:
    async def scenario() -> None:
        fail_stop = FailStop(told.append)
        loop = asyncio.get_running_loop()
        never = fail_stop.watch(loop.create_task(asyncio.sleep(PATIENCE_S)))
        fails = fail_stop.watch(loop.create_task(fail()))
        await asyncio.wait([fails])
        never.cancel()
        await asyncio.wait([never])
        await asyncio.sleep(0)
        fail_stop.step(told.append, Bug("the state is whole"))

    async def fail() -> None:
        raise Bug("work")

    told: list[BaseException] = []
    asyncio.run(scenario())
    assert list(map(str, told)) == ["work", "the state is whole"]


# What works for a replica.


def test_a_step_that_fails_with_what_was_executed_ends_the_replica() -> None:
    async def scenario() -> None:
        config = Config(inline_after_runs=1_000_000)
        lane = Lane(Executor("here"), config, fail, FailStop(told.append))
        lane._handed_over = 1  # As if something slow were before it: on the thread.
        lane.execute([Decided(0, NOOP)], [])
        await until(lambda: bool(told))
        lane.close()

    def fail(*_: object) -> None:
        raise Bug("with the result")

    told: list[BaseException] = []
    asyncio.run(scenario())
    assert list(map(str, told)) == ["with the result"]


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("can't start new thread"), None])
def test_a_snapshot_of_a_child_that_nobody_gets_ends_the_replica(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for the snapshot for ever, and take no other: the log would never be dropped."""

    def collect(child: Child) -> Rope:
        made = really_collect(child)
        if error is not None:
            raise error
        return made

    async def scenario() -> None:
        lane = Lane(Executor("here"), Config(), lambda *_: None, FailStop(told.append))
        lane.take_snapshot(taken, lambda: True)
        await until(lambda: bool(told))
        lane.close()

    def taken(_: object) -> None:
        raise Bug("with the snapshot")

    really_collect = Child.collect
    monkeypatch.setattr(lanes, "_BRIEF_S", -1.0)
    monkeypatch.setattr(Child, "collect", collect)
    told: list[BaseException] = []
    asyncio.run(scenario())
    assert list(map(str, told)) == [str(error or "with the snapshot")]


# A process's own connection.


def test_who_waits_is_told_when_a_connection_fails_by_itself(sent: Sent) -> None:
    def fail(_: object) -> None:
        raise Bug("in a step")

    client = Client(boot(Role.CLIENT), NoDiscovery(), "a test")
    caller: Any = client._caller
    caller.connected(LEADER)
    caller.receive(LEADER, [Leading()])
    call = PendingCall(Cancel(1), readonly=False)
    client._inbox.extend([(caller.begin, call), (fail, None)])
    client._drain()
    with pytest.raises(OutcomeUnknown, match="failed by itself"):
        call.result()
    client._loop.close()


# The end.


async def until(condition: Callable[[], bool]) -> None:
    async def look() -> None:
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)

    await asyncio.wait_for(look(), PATIENCE_S)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Why processes have ended, which go on here."""
    reasons: list[str] = []

    def end(member: Member, error: BaseException) -> NoReturn:
        reasons.append(str(error))
        raise asyncio.CancelledError

    monkeypatch.setattr(nodes, "exit_broken", end)
    return reasons


def test_a_member_that_leaves_ends_its_process_even_if_it_cannot_close_its_connections(
    ends: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        role = ReplicaRole(boot(Role.REPLICA, disk_retry_s=0.05), HERE, NoDiscovery())
        monkeypatch.setattr(role.node.links, "close", fail)
        role.broken(StorageFailed("no space"))
        assert ends == []
        leaving = role.node._leaving
        assert leaving is not None
        await asyncio.wait([leaving], timeout=10)

    async def fail() -> None:
        raise RuntimeError("changed size during iteration")

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert ends == ["no space"]
    assert "changed size" in caplog.text
