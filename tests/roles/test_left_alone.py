"""A member that was told to leave, and that nobody has killed since."""

from __future__ import annotations

import asyncio
import os

import pytest

from concoord_ray import actors
from concoord_ray.actors import RoleActor
from concoord_ray.paxos.view import Member, Role, View
from concoord_ray.roles.acceptor import AcceptorRole
from concoord_ray.roles.boot import Whereabouts
from concoord_ray.roles.registry import RegistryRole
from concoord_ray.roles.replica import ReplicaRole
from tests.roles.conftest import NoDiscovery, boot

PATIENCE_S = 10.0


class Silent(NoDiscovery):
    """Nobody is there, and there never is a view."""

    async def view(self) -> View:
        await asyncio.Event().wait()
        raise AssertionError("it is cancelled")


@pytest.mark.parametrize("of", [AcceptorRole, ReplicaRole, RegistryRole])
def test_it_ends_by_itself(
    monkeypatch: pytest.MonkeyPatch, of: type[AcceptorRole] | type[ReplicaRole] | type[RegistryRole]
) -> None:
    """Its links are closed, and its process has its name: only another process hears anybody again."""
    ended: list[Member] = []
    role = {AcceptorRole: Role.ACCEPTOR, ReplicaRole: Role.REPLICA, RegistryRole: Role.REGISTRY}[of]

    async def leave() -> Member:
        stopped = asyncio.Event()

        def end(member: Member, error: BaseException) -> None:
            ended.append(member)
            stopped.set()

        monkeypatch.setattr(actors, "exit_broken", end)
        actor = object.__new__(RoleActor)
        actor._role = of(boot(role, close_timeout_s=0.05), Whereabouts("127.0.0.1", "n", os.getpid()), Silent())
        await actor._role.start()
        await actor.stop()
        assert not ended
        await asyncio.wait_for(stopped.wait(), PATIENCE_S)
        return actor._role.node.me

    assert [asyncio.run(leave())] == ended
