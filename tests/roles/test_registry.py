"""The registry, and who looks for it: lives that stand still give way to the next, and to nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from concoord_ray.directory import Directory, MemberReport
from concoord_ray.net.identity import Address
from concoord_ray.paxos.view import Member, Role, View
from concoord_ray.roles import registry as registry_module
from concoord_ray.roles.acceptor import AcceptorRole
from concoord_ray.roles.boot import Whereabouts, WireMessage
from concoord_ray.roles.gateway import GatewayRole
from concoord_ray.roles.node import Node
from concoord_ray.roles.registry import RegistryRole
from tests.roles.conftest import boot

PLACE = Whereabouts("127.0.0.1", "a node", 1)
SILENT_AFTER_S = 0.3
FORGET_AFTER_S = 1.0
PATIENCE_S = 20.0


class Ray:
    """Implements ``roles.boot.Discovery``: says what Ray would say of the registry, once there is one."""

    def __init__(self) -> None:
        self.registry: RegistryRole | None = None

    async def view(self) -> View:
        return View(0, (), (0,))

    async def registries(self) -> dict[int, tuple[Address, int]]:
        if self.registry is None:
            return {}
        report = self.registry.node.own_report()
        return {0: (report.address, report.member.incarnation)}


class Idle:
    """Implements ``roles.node.NodeOwner``: a member that does nothing."""

    def receive(self, source: Member, messages: list[WireMessage]) -> None: ...
    def connected(self, member: Member) -> None: ...
    def disconnected(self, member: Member) -> None: ...
    def directory_changed(self, directory: Directory) -> None: ...
    def tick(self, now_s: float) -> None: ...
    def broken(self, error: BaseException) -> None: ...
    def report(self, report: MemberReport) -> MemberReport:
        return report


async def a_registry(ray: Ray) -> RegistryRole:
    started = RegistryRole(_boot(Role.REGISTRY), PLACE, ray)
    await started.start()
    ray.registry = started
    return started


async def an_acceptor(ray: Ray) -> AcceptorRole:
    started = AcceptorRole(_boot(Role.ACCEPTOR), PLACE, ray)
    await started.start()
    return started


def _boot(role: Role) -> Any:
    return boot(role, report_interval_s=0.02, silent_after_s=SILENT_AFTER_S, forget_after_s=FORGET_AFTER_S)


def stand_still(role: AcceptorRole | RegistryRole, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing any more; its connections stay open."""
    monkeypatch.setattr(role.node.links, "send", lambda *_: False)
    monkeypatch.setattr(role.node.links, "broadcast", lambda *_: None)


async def until(condition: Callable[[], bool]) -> None:
    async def look() -> None:
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    await asyncio.wait_for(look(), PATIENCE_S)


def listed(registry: RegistryRole, watcher: AcceptorRole) -> Member | None:
    """The acceptor that the registry names, as another member hears it."""
    assert registry.node.me in watcher.node.links.members()
    found = watcher.node.directory.find(Role.ACCEPTOR, 0)
    return None if found is None else found.member


def run(test: Callable[[Ray], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test(Ray()))


def test_of_two_lives_the_one_that_speaks_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(ray: Ray) -> None:
        registry = await a_registry(ray)
        first = await an_acceptor(ray)
        await until(lambda: first.node.directory.find(Role.ACCEPTOR, 0) is not None)
        second = await an_acceptor(ray)
        await until(lambda: registry.node.me in second.node.links.members())
        await asyncio.sleep(2 * SILENT_AFTER_S)
        assert listed(registry, second) == first.node.me
        stand_still(first, monkeypatch)
        await until(lambda: listed(registry, second) == second.node.me)
        monkeypatch.undo()  # The first goes on, and stays out.
        await asyncio.sleep(2 * SILENT_AFTER_S)
        assert listed(registry, first) == second.node.me
        await second.stop()
        await until(lambda: listed(registry, first) == first.node.me)
        await first.stop()
        await registry.stop()

    run(test)


def test_a_registry_that_stands_still_is_left_for_its_next_life(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(ray: Ray) -> None:
        first = await a_registry(ray)
        acceptor = await an_acceptor(ray)
        await until(lambda: first.node.me in acceptor.node.links.members())
        second = await a_registry(ray)
        monkeypatch.setattr(registry_module, "exit_broken", lambda *_: None)
        await asyncio.sleep(2 * SILENT_AFTER_S)
        assert acceptor.node.links.members() == [first.node.me]
        stand_still(first, monkeypatch)
        await until(lambda: acceptor.node.links.members() == [second.node.me])
        for role in (acceptor, first, second):
            await role.stop()

    run(test)


def test_a_registry_ends_when_ray_has_started_another(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Member] = []
    monkeypatch.setattr(registry_module, "exit_broken", lambda member, _: ended.append(member))

    async def test(ray: Ray) -> None:
        first = await a_registry(ray)
        await asyncio.sleep(0.5)
        assert not ended
        second = await a_registry(ray)
        await until(lambda: first.node.me in ended)
        assert second.node.me not in ended
        for role in (first, second):
            await role.stop()

    run(test)


def test_a_replica_that_has_left_is_not_dialled_for_ever() -> None:
    """Unless the registries have begun anew, and may not have heard of it yet."""

    async def test(ray: Ray) -> None:
        registry = await a_registry(ray)
        replica = Node(_boot(Role.REPLICA), PLACE, ray, Idle())
        await replica.start()
        gateway = GatewayRole(_boot(Role.GATEWAY), PLACE, ray)
        await gateway.start()
        await until(lambda: gateway.node.links.is_linked(replica.me))
        await replica.stop()
        await registry.stop()
        await asyncio.sleep(2 * FORGET_AFTER_S)
        registry = await a_registry(ray)
        await until(lambda: registry.node.me in gateway.node.links.members())
        assert list(gateway.node.links.targets(Role.REPLICA)) == [replica.me]
        await until(lambda: not gateway.node.links.targets(Role.REPLICA))
        assert gateway.node.directory.find(Role.REPLICA, 0) is None
        await gateway.stop()
        await registry.stop()

    run(test)
