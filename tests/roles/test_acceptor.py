"""An acceptor answers nobody before its node could be found again by what is on its disk."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from concoord_ray.errors import StorageFailed
from concoord_ray.net.identity import Address
from concoord_ray.paxos.ballot import Ballot
from concoord_ray.paxos.messages import P1a, P1b
from concoord_ray.paxos.outputs import Joined
from concoord_ray.paxos.view import Member, Role, View
from concoord_ray.roles.acceptor import AcceptorRole
from concoord_ray.roles.boot import Boot, Whereabouts, decode
from concoord_ray.storage import birth
from concoord_ray.storage.birth import FILE_NAME, read_birth
from concoord_ray.storage.durable import DurableStorage
from tests.roles.conftest import LEADER, boot
from tests.storage.pieces import flip

PLACE = Whereabouts("127.0.0.1", "a node", 1)
PATIENCE_S = 20.0


class Undecided:
    """Implements ``roles.boot.Discovery``: the first view is decided when the test says so."""

    def __init__(self) -> None:
        self.decided: asyncio.Future[View] = asyncio.get_running_loop().create_future()

    async def view(self) -> View:
        return await self.decided

    async def registries(self) -> dict[int, tuple[Address, int]]:
        return {}


def view_of(role: AcceptorRole) -> View:
    return View(0, (role.node.me,), (0,))


async def until(condition: Any) -> None:
    for _ in range(int(PATIENCE_S / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it has not come about")


async def asked_before_and_after(it: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    discovery = Undecided()
    role = AcceptorRole(it, PLACE, discovery)
    sent: list[tuple[Member, bytes]] = []
    monkeypatch.setattr(role.node.links, "send", lambda to, payload, **_: sent.append((to, payload)))
    await role.start()
    view = view_of(role)
    asking = P1a(view, Ballot(1, 0, 1), 0)
    role.receive(LEADER, [asking])
    await asyncio.sleep(0.1)
    assert sent == []
    discovery.decided.set_result(view)
    await until((it.data_directory() / FILE_NAME).exists)  # The last of the two.
    assert read_birth(it.data_directory().parent / FILE_NAME) == read_birth(it.data_directory() / FILE_NAME)
    role.receive(LEADER, [asking])
    await until(lambda: any(to == LEADER for to, _ in sent))
    assert isinstance(decode(next(payload for to, payload in sent if to == LEADER)), P1b)
    await role.stop()


def test_no_scout_is_answered_before_there_is_a_birth_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(asked_before_and_after(boot(Role.ACCEPTOR, storage=str(tmp_path)), monkeypatch))


@pytest.mark.parametrize("is_damaged", [False, True])
def test_one_that_has_a_view_and_no_certificate_sees_to_that_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_damaged: bool
) -> None:
    it = boot(Role.ACCEPTOR, storage=str(tmp_path))
    before = DurableStorage.open(
        it.data_directory(), ensemble=it.ensemble, role=Role.ACCEPTOR, index=it.index, incarnation=7
    )
    before.append([Joined(View(0, (Member(Role.ACCEPTOR, it.index, 7),), (0,)))])
    before.close()
    if is_damaged:
        (it.data_directory().parent / FILE_NAME).write_bytes(b"no certificate")
    asyncio.run(asked_before_and_after(it, monkeypatch))


async def asked_while_nobody_knows_the_first_view(it: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    role = AcceptorRole(it, PLACE, Undecided())
    sent: list[Member] = []
    monkeypatch.setattr(role.node.links, "send", lambda to, _, **__: sent.append(to))
    await role.start()
    role.receive(LEADER, [P1a(view_of(role), Ballot(1, 0, 1), 0)])
    await until(lambda: LEADER in sent)
    await role.stop()


@pytest.mark.parametrize("is_its_own", [False, True])
def test_a_damaged_certificate_is_mended_from_the_copy_before_anything_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_its_own: bool
) -> None:
    it = boot(Role.ACCEPTOR, storage=str(tmp_path))
    asyncio.run(asked_before_and_after(it, monkeypatch))
    both = [it.data_directory().parent / FILE_NAME, it.data_directory() / FILE_NAME]
    whole = both[0].read_bytes()
    flip(both[is_its_own], 40, 1)
    asyncio.run(asked_while_nobody_knows_the_first_view(it, monkeypatch))
    assert [path.read_bytes() for path in both] == [whole, whole]


def test_one_that_cannot_write_its_certificate_leaves_its_data_to_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = boot(Role.ACCEPTOR, storage=str(tmp_path))
    asyncio.run(asked_before_and_after(it, monkeypatch))
    (it.data_directory() / FILE_NAME).unlink()
    with monkeypatch.context() as broken:
        broken.setattr(birth, "replace_file", fail)
        with pytest.raises(StorageFailed):
            AcceptorRole(it, PLACE, NotImplemented)
    asyncio.run(asked_while_nobody_knows_the_first_view(it, monkeypatch))


def fail(*_: Any) -> None:
    raise OSError("no space")
