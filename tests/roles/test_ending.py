"""Whatever goes wrong in a role ends it."""

from __future__ import annotations

import asyncio
import logging
from typing import NoReturn

import pytest

from concoord_ray.errors import StorageFailed
from concoord_ray.paxos.view import Member, Role
from concoord_ray.roles import node as nodes
from concoord_ray.roles.boot import Whereabouts
from concoord_ray.roles.replica import ReplicaRole
from tests.roles.conftest import NoDiscovery, boot

HERE = Whereabouts("127.0.0.1", "a node", 1)


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
