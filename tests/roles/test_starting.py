"""A role that cannot start lets go of its data: its actor starts it again, in the same process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from concoord_ray.errors import ConfigurationError
from concoord_ray.net.identity import Address
from concoord_ray.paxos.view import Role, View
from concoord_ray.roles.acceptor import AcceptorRole
from concoord_ray.roles.boot import Whereabouts
from concoord_ray.roles.replica import ReplicaRole
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
