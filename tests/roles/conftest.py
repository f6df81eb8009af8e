"""Roles without a network: what they send is caught, what they receive is handed in."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from concoord_ray.config import Config
from concoord_ray.net.identity import Address
from concoord_ray.paxos.view import Member, Role, View
from concoord_ray.roles import node
from concoord_ray.roles.boot import Boot, WireMessage
from concoord_ray.roles.node import Node

ENSEMBLE = "e" * 32
LEADER = Member(Role.REPLICA, 0, 17)
GATEWAY = Member(Role.GATEWAY, 5, 23)

Sent = list[tuple[Member, WireMessage]]


class NoDiscovery:
    """Implements ``roles.boot.Discovery``: there is nobody."""

    async def view(self) -> View:
        raise AssertionError("nobody asks")

    async def registries(self) -> dict[int, tuple[Address, int]]:
        return {}


def boot(role: Role, **settings: Any) -> Boot:
    return Boot("here", ENSEMBLE, b"s" * 32, Config(**settings), role, 0, "concoord")


@pytest.fixture(autouse=True)
def no_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A role that is broken ends its process, which here is that of all tests."""

    def fail(member: Member, error: BaseException) -> NoReturn:
        raise AssertionError(f"{member} is broken: {error!r}") from error

    monkeypatch.setattr(node, "exit_broken", fail)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """What the nodes of one ensemble have sent, in order. Clients that other tests have left speak on as they do."""
    caught: Sent = []
    really_send = Node.send

    def send(speaker: Node, to: Member, message: WireMessage) -> None:
        if speaker.boot.ensemble == ENSEMBLE:
            caught.append((to, message))
        else:
            really_send(speaker, to, message)

    monkeypatch.setattr(Node, "send", send)
    return caught
