"""Processes that are seen to die, and what a gateway makes of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from concoord_ray.paxos.view import Member, Role
from concoord_ray.roles.boot import Whereabouts
from concoord_ray.roles.gateway import GatewayRole
from concoord_ray.roles.watch import Watch, Watches, start_time
from concoord_ray.rsm.command import ExpireSession, KeepAlive, Leading, NotLeader, Outcome, Reply, Request
from concoord_ray.rsm.wire import decode_command, encode_plain
from tests.roles.conftest import LEADER, NoDiscovery, Sent, boot

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the kernel tells of no process here")

PATIENCE_S = 30.0


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits to be killed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def told(process: subprocess.Popen[bytes], session: int) -> Watch:
    started = start_time(process.pid)
    assert started is not None
    return Watch(session, process.pid, started)


def test_a_process_that_is_killed_ends_its_last_session(child: subprocess.Popen[bytes]) -> None:
    async def main() -> None:
        died: asyncio.Queue[int] = asyncio.Queue()
        watches = Watches(10, died.put_nowait)
        for session in (1, 2, 2):
            watches.watch(told(child, session))
        assert len(watches) == 1
        child.kill()
        assert await asyncio.wait_for(died.get(), PATIENCE_S) == 2
        assert died.empty()
        assert len(watches) == 0

    asyncio.run(main())


def test_only_the_process_that_was_told_of_is_watched(child: subprocess.Popen[bytes]) -> None:
    """A pid alone may be of another process, or of another container."""

    async def main() -> None:
        watches = Watches(10, lambda _: pytest.fail("nobody is known to have died"))
        watch = told(child, 1)
        watches.watch(Watch(1, watch.pid, watch.started + 1))
        child.kill()
        child.wait(PATIENCE_S)
        watches.watch(watch)
        assert len(watches) == 0

    asyncio.run(main())


def test_no_more_are_watched_than_allowed(child: subprocess.Popen[bytes]) -> None:
    async def main() -> None:
        watches = Watches(1, lambda _: None)
        watches.watch(told(child, 1))
        own = start_time(os.getpid())
        assert own is not None
        watches.watch(Watch(2, os.getpid(), own))
        assert len(watches) == 1
        watches.close()
        assert len(watches) == 0

    asyncio.run(main())


def test_a_gateway_ends_the_session_of_a_dead_process_whoever_leads_then(
    child: subprocess.Popen[bytes], sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        gateway = GatewayRole(boot(Role.GATEWAY), Whereabouts("127.0.0.1", "node", 1), NoDiscovery())
        gateway.connected(LEADER)
        gateway.receive(LEADER, [Leading()])
        gateway.receive(Member(Role.CLIENT, 0, 99), [told(child, 7)])
        child.kill()
        give_up_s = time.monotonic() + PATIENCE_S
        while not sent:
            assert time.monotonic() < give_up_s
            await asyncio.sleep(0.01)
        first = expired(sent)
        gateway.receive(LEADER, [NotLeader(None, True)])
        late_s = time.monotonic() + 2 * gateway.node.boot.config.quorum_timeout_s
        monkeypatch.setattr(time, "monotonic", lambda: late_s)
        gateway.tick(late_s)
        gateway.receive(LEADER, [Leading()])
        again = expired(sent)
        assert again != first
        gateway.receive(LEADER, [Reply(0, again, Outcome.PLAIN, encode_plain(None))])
        gateway.receive(LEADER, [NotLeader(None, True), Leading()])
        assert sent == []

    asyncio.run(main())


def expired(sent: Sent) -> int:
    """The number of the one entry sent, which ends session 7 whatever it has logged."""
    ((to, request),) = [each for each in sent if not isinstance(each[1], KeepAlive)]
    sent.clear()
    assert to == LEADER
    assert isinstance(request, Request)
    command = decode_command(request.entry.command)
    assert isinstance(command, ExpireSession)
    assert (request.entry.session, command.session) == (0, 7)
    assert command.seen_slot > 1 << 60
    return request.entry.seq
