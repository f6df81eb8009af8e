"""Who does not know the secret gets nowhere: refused, counted in the log, and never unpickled."""

from __future__ import annotations

import asyncio
import os
import pickle
import secrets
import socket
from pathlib import Path
from typing import Any

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import MemberStatus, genesis
from concoord_ray.net.connection import Connection
from concoord_ray.net.dialer import Dialer
from concoord_ray.net.identity import Address, Identity
from concoord_ray.paxos.view import Member, Role
from tests.integration.samples import Tally
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ensemble")]


class Bomb:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def members() -> list[MemberStatus]:
    """One of each role."""
    Tally.remote().increment.remote()
    found = until(lambda: concoord.status().gateways and concoord.status())
    assert not isinstance(found, tuple)
    return [found.replicas[0], found.acceptors[0], found.registries[0], found.gateways[0]]


def logged(member: MemberStatus) -> str:
    """What the member's process wrote to its log."""
    node = ray._private.worker.global_worker.node
    assert node is not None
    session = Path(node.get_session_dir_path())
    return "".join(path.read_text(errors="replace") for path in (session / "logs").glob(f"worker-*-{member.pid}.*"))


@pytest.mark.parametrize("index", range(4), ids=["replica", "acceptor", "registry", "gateway"])
def test_a_strangers_bytes_are_refused_and_never_unpickled(index: int, tmp_path: Path) -> None:
    member = members()[index]
    assert member.address is not None
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    for said in (b"GET / HTTP/1.1\r\n\r\n", len(bomb).to_bytes(4, "big") + bomb, bomb, b"\xff" * 64, b"\0" * 64):
        with socket.create_connection((member.address.host, member.address.port), timeout=30) as stranger:
            stranger.sendall(said)
            stranger.shutdown(socket.SHUT_WR)
            assert stranger.recv(1 << 16) == b""
    assert not (tmp_path / "exploded").exists()
    until(lambda: "malformed" in logged(member))
    assert concoord.status().replicas  # It lives, and so do the others.
    assert [m.incarnation for m in members()][index] == member.incarnation
    tally = Tally.remote()
    assert (tally.increment(), ray.get(tally.increment.remote())) == (1, 2)


def test_the_wrong_secret_is_refused() -> None:
    plan = genesis.find_plan("default")
    assert plan is not None
    for member in members():
        assert member.address is not None
        assert member.incarnation is not None
        assert "Unauthorized" in asyncio.run(refusal(plan.ensemble, secrets.token_bytes(32), member))
        until(lambda member=member: "unauthorized" in logged(member))  # type: ignore[misc]


def test_the_right_secret_is_let_in() -> None:
    """The control: what refuses the others is the secret alone."""
    plan = genesis.find_plan("default")
    assert plan is not None
    for member in members():
        assert asyncio.run(refusal(plan.ensemble, plan.secret, member)) == ""


def test_a_secret_is_needed_from_the_listener_too() -> None:
    """Who listens where a member should be learns nothing, and is left."""
    plan = genesis.find_plan("default")
    assert plan is not None

    async def main() -> bytes:
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            said = await reader.readexactly(4)
            said += await reader.readexactly(int.from_bytes(said, "big"))
            writer.write(b"\0\0\0\1\xc0")
            heard.set_result(said + await reader.read())
            writer.close()

        server = await asyncio.start_server(listen, "127.0.0.1", 0)
        address = Address(*server.sockets[0].getsockname()[:2])
        dialer = Dialer(stranger_of(plan.ensemble), plan.secret, plan.config, Silent())
        dialer.dial(address)
        try:
            return await asyncio.wait_for(heard, 30)
        finally:
            dialer.close()
            await dialer.wait_closed()
            server.close()

    assert plan.secret not in asyncio.run(main())


def stranger_of(ensemble: str) -> Identity:
    """An identity that anybody could make up."""
    return Identity(ensemble, Member(Role.CLIENT, 0, secrets.randbits(63)))


class Silent:
    """A handler that does nothing."""

    def opened(self, connection: Connection) -> None:
        """See ``Handler``."""

    def received(self, connection: Connection, payloads: list[bytes]) -> None:
        """See ``Handler``."""

    def closed(self, connection: Connection, error: Exception | None) -> None:
        """See ``Handler``."""


async def refusal(ensemble: str, secret: bytes, member: MemberStatus) -> str:
    """Dial a member with a secret; the name of the error, empty if it let us in."""
    plan = genesis.find_plan("default")
    assert plan is not None
    assert member.address is not None
    assert member.incarnation is not None
    settled: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    class Opened(Silent):
        def opened(self, connection: Connection) -> None:
            settled.set_result("")

    def failed(error: Exception) -> None:
        settled.set_result(type(error).__name__)

    expected = Member(Role(member.role), member.index, member.incarnation)
    dialer = Dialer(stranger_of(ensemble), secret, plan.config, Opened(), expected, failed=failed)
    dialer.dial(member.address)
    try:
        return await asyncio.wait_for(settled, 30)
    finally:
        dialer.close()
        await dialer.wait_closed()
