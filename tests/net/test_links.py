"""The connections of a process: which of a member's carries what, and how many strangers to the ensemble it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from concoord_ray.net.identity import Address, Identity
from concoord_ray.net.links import Links, Target
from concoord_ray.paxos.view import Member, Role
from tests.net.ends import REPLICA, SECRET, Loop, config, run


class Line:
    """Stands for a connection."""

    def __init__(self, role: Role, number: int, *, dialed: bool = False) -> None:
        self.peer = Identity("default", Member(role, number, number))
        self.dialed = dialed
        self.is_closed = False
        self.sent: list[bytes] = []

    def close(self) -> None:
        self.is_closed = True

    def send(self, payload: bytes, *, urgent: bool = False) -> bool:
        self.sent.append(payload)
        return not self.is_closed


class Owner:
    def __init__(self) -> None:
        self.linked: list[Member] = []
        self.told: list[tuple[str, Member]] = []

    def link_opened(self, member: Member) -> None:
        self.linked.append(member)
        self.told.append(("opened", member))

    def link_received(self, member: Member, payloads: list[bytes]) -> None:
        """See ``LinksOwner``."""

    def link_has_room(self, then: Callable[[], None]) -> None:
        """See ``LinksOwner``."""

    def link_closed(self, member: Member) -> None:
        self.linked.remove(member)
        self.told.append(("closed", member))


def test_one_client_too_many_is_turned_away_and_a_member_is_not() -> None:
    owner = Owner()
    links: Any = Links(REPLICA, SECRET, config(max_client_connections=2), owner)
    lines = [Line(Role.CLIENT, 1), Line(Role.GATEWAY, 2), Line(Role.CLIENT, 3)]
    for line in lines:
        links.opened(line)
    assert [line.is_closed for line in lines] == [False, False, True]
    links.opened(Line(Role.REPLICA, 4))
    assert [member.incarnation for member in owner.linked] == [1, 2, 4]
    links.closed(lines[2], None)
    assert len(owner.linked) == 3
    links.closed(lines[0], None)
    again = Line(Role.CLIENT, 5)
    links.opened(again)
    assert not again.is_closed
    assert again.peer.member in owner.linked


def test_whom_we_dialed_is_never_turned_away() -> None:
    owner = Owner()
    links: Any = Links(REPLICA, SECRET, config(max_client_connections=1), owner)
    lines = [Line(Role.GATEWAY, n, dialed=True) for n in range(3)]
    for line in lines:
        links.opened(line)
    assert len(owner.linked) == 3
    for line in lines:
        links.closed(line, None)
    assert links._clients == 0


def test_links_that_are_being_closed_take_no_more_targets(new_loop: Loop) -> None:
    """A member that leaves hears meanwhile who is new in the view."""

    async def main() -> None:
        links = Links(REPLICA, SECRET, config(), Owner())
        first = [Target(Member(Role.ACCEPTOR, 0, 1), Address("127.0.0.1", 1))]
        links.aim(Role.ACCEPTOR, first)
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(links.close())
        await asyncio.sleep(0)
        links.aim(Role.ACCEPTOR, [*first, Target(Member(Role.ACCEPTOR, 1, 1), Address("127.0.0.1", 1))])
        assert not closing.done()
        await closing
        assert [member.index for member in links.targets(Role.ACCEPTOR)] == [0]

    run(new_loop, main())


def test_who_dials_again_has_lost_the_connection_before_whatever_we_know_of_it() -> None:
    owner = Owner()
    links: Any = Links(REPLICA, SECRET, config(max_client_connections=1), owner)
    old, new = Line(Role.CLIENT, 1), Line(Role.CLIENT, 1)
    member = old.peer.member
    links.opened(old)
    links.opened(new)
    assert (old.is_closed, new.is_closed) == (True, False)
    assert owner.told == [("opened", member), ("closed", member), ("opened", member)]
    links.send(member, b"word")
    assert (old.sent, new.sent) == ([], [b"word"])
    links.closed(old, None)
    assert links.is_linked(member)
    assert len(owner.told) == 3
    links.closed(new, None)
    assert not links.is_linked(member)
    assert owner.told[3:] == [("closed", member)]
    links.opened(Line(Role.CLIENT, 2))
    assert len(owner.linked) == 1


def test_a_connection_that_comes_late_is_replaced_by_the_next() -> None:
    """The peer sees that the one that it uses is closed, and dials once more."""
    links: Any = Links(REPLICA, SECRET, config(), Owner())
    current, late, again = (Line(Role.CLIENT, 1) for _ in range(3))
    for line in (current, late):
        links.opened(line)
    assert current.is_closed
    links.opened(again)
    links.closed(current, None)
    links.closed(late, None)
    links.send(again.peer.member, b"word")
    assert again.sent == [b"word"]


def test_the_connections_that_two_members_dial_to_each_other_stand_side_by_side() -> None:
    owner = Owner()
    links: Any = Links(REPLICA, SECRET, config(), owner)
    theirs, ours, again = Line(Role.REPLICA, 1), Line(Role.REPLICA, 1, dialed=True), Line(Role.REPLICA, 1)
    for line in (theirs, ours, again):
        links.opened(line)
    assert [line.is_closed for line in (theirs, ours, again)] == [True, False, False]
    links.send(ours.peer.member, b"word")
    assert ours.sent == [b"word"]
    links.closed(ours, None)
    links.send(ours.peer.member, b"other")
    assert again.sent == [b"other"]
