"""A role that cannot start lets go of its data: its actor starts it again, in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from concoord_ray.errors import ConfigurationError
from concoord_ray.net.identity import Address
from concoord_ray.paxos.view import Member, Role, View
from concoord_ray.roles.acceptor import AcceptorRole
from concoord_ray.roles.boot import Whereabouts
from concoord_ray.roles.replica import ReplicaRole
from concoord_ray.rsm.executor import Executor
from concoord_ray.storage.files import is_locked
from tests.roles.conftest import boot

#: An address that no machine has.
NOWHERE = Whereabouts("203.0.113.1", "a node", 1)
HERE = Whereabouts("127.0.0.1", "a node", 1)


class Nobody:
    """Implements ``roles.boot.Discovery``: nothing is ever found."""

    async def view(self) -> View:
        never: asyncio.Future[View] = asyncio.get_running_loop().create_future()
        return await never

    async def registries(self) -> dict[int, tuple[Address, int]]:
        return {}


@pytest.mark.parametrize(("role", "kind"), [(Role.ACCEPTOR, AcceptorRole), (Role.REPLICA, ReplicaRole)])
def test_a_role_that_cannot_listen_lets_go_of_its_data(
    tmp_path: Path, role: Role, kind: type[AcceptorRole | ReplicaRole]
) -> None:
    """Else the next attempt would find them in use, by nobody but itself, and begin without them."""
    it = boot(role, storage=str(tmp_path))

    async def scenario() -> None:
        first = kind(it, NOWHERE, Nobody())
        with pytest.raises(ConfigurationError, match="cannot listen"):
            await first.start()
        assert not is_locked(it.data_directory())
        again = kind(it, HERE, Nobody())
        await again.start()
        if role is Role.ACCEPTOR:
            assert again.node.me == first.node.me
        await again.stop()

    asyncio.run(scenario())
    assert [path.name for path in it.data_directory().parent.iterdir()] == [it.data_directory().name]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not come true")


class Begun(Nobody):
    """The first view is decided."""

    async def view(self) -> View:
        return View(0, (Member(Role.ACCEPTOR, 0, 1),), (0,), 0)


def test_a_state_that_comes_too_late_is_refused_and_not_kept(tmp_path: Path) -> None:
    """Else the next life of the replica would begin with it, and this one goes on without."""
    it = boot(Role.REPLICA, storage=str(tmp_path))

    async def scenario() -> None:
        replica = ReplicaRole(it, HERE, Begun())
        await replica.start()
        await until(lambda: replica.node.own_report().view is not None)
        executor = Executor(it.ensemble)
        executor.next_slot = 500
        with pytest.raises(ConfigurationError, match=r"has begun already.*concoord\.recover"):
            await replica.seed(bytes(executor.snapshot()))
        await replica.stop()

    asyncio.run(scenario())
    assert not list(it.data_directory().glob("*-*"))


def test_a_state_to_begin_with_is_a_snapshot_once_it_has_begun(tmp_path: Path) -> None:
    it = boot(Role.REPLICA, storage=str(tmp_path))
    executor = Executor(it.ensemble)
    executor.next_slot = 500

    async def scenario() -> None:
        given = ReplicaRole(it, HERE, Nobody())
        await given.start()
        await given.seed(bytes(executor.snapshot()))
        assert sorted(path.name for path in it.data_directory().iterdir()) == ["lock", f"seed-{500:020}"]
        await given.stop()
        begins = ReplicaRole(it, HERE, Begun())
        await begins.start()
        await until(lambda: begins.node.own_report().applied_slot == 500)
        await begins.stop()

    asyncio.run(scenario())
    assert f"snapshot-{500:020}" in [path.name for path in it.data_directory().iterdir()]
