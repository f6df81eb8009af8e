"""Who stays known, though a registry does not name it; and who is forgotten, so that nothing grows for ever."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from concoord_ray.directory import Directory, Hearsay, MemberReport
from concoord_ray.net.identity import Address
from concoord_ray.paxos.view import Member, Role, View

SILENT_AFTER_S, FORGET_AFTER_S = 2.5, 60.0
#: How often a registry speaks.
EVERY_S = 1.0
REGISTRY, ANOTHER = Member(Role.REGISTRY, 0, 1), Member(Role.REGISTRY, 1, 1)
GATEWAY = Member(Role.GATEWAY, 77, 1)
REPLICAS = [Member(Role.REPLICA, index, 1) for index in range(3)]
ACCEPTORS = [Member(Role.ACCEPTOR, index, 1) for index in range(3)]
VIEW = View(0, tuple(ACCEPTORS), (0, 1, 2))


def report(member: Member, view: View | None = None) -> MemberReport:
    return MemberReport(member, Address("127.0.0.1", 1000 + member.index), "a node", 1, view=view)


class Listener:
    """A process that hears registries, at a time of its own."""

    def __init__(self) -> None:
        self.hearsay = Hearsay(SILENT_AFTER_S, FORGET_AFTER_S)
        self.now_s = 1000.0
        self.linked: set[Member] = set()

    def hear(
        self, *named: Member, by: Iterable[Member] = (REGISTRY,), for_s: float = 0.0, view: View | None = None
    ) -> None:
        """These registries name these members, once or for so many seconds."""
        until_s = self.now_s + for_s
        while True:
            for registry in by:
                told = Directory(tuple(report(member, view) for member in (registry, *named)))
                self.hearsay.told(registry, told, self.now_s, self.linked.__contains__)
            if self.now_s >= until_s:
                return
            self.now_s += EVERY_S

    def knows(self, member: Member) -> bool:
        return self.hearsay.directory.find(member.role, member.index) is not None


@pytest.fixture
def process() -> Listener:
    """One that has heard of a gateway and a replica for a long time."""
    process = Listener()
    process.hear(GATEWAY, REPLICAS[0], for_s=2 * FORGET_AFTER_S)
    return process


def test_who_is_not_named_any_more_is_forgotten_after_a_while(process: Listener) -> None:
    process.hear(REPLICAS[0], for_s=FORGET_AFTER_S - 2 * EVERY_S)
    assert process.knows(GATEWAY)
    process.hear(REPLICAS[0], for_s=2 * EVERY_S)
    assert not process.knows(GATEWAY)
    assert process.knows(REPLICAS[0])
    process.hear(GATEWAY)
    assert process.knows(GATEWAY)


def test_what_is_known_has_a_bound_however_many_come_and_go(process: Listener) -> None:
    for node in range(1000):
        process.hear(Member(Role.GATEWAY, node, 1), Member(Role.ACCEPTOR, 0, node))
        process.now_s += EVERY_S
    bound = FORGET_AFTER_S / EVERY_S + 4
    assert len(process.hearsay.directory.members) <= bound
    assert len(process.hearsay._known_at_s) <= bound


def test_a_registry_that_has_just_begun_makes_nobody_forgotten(process: Listener) -> None:
    """Nor does one that begins again and again: it never speaks for long enough to be sure."""
    for life in range(2, 10):
        process.hear(by=[REGISTRY._replace(incarnation=life)], for_s=FORGET_AFTER_S / 2)
    assert process.knows(GATEWAY)
    process.hear(by=[REGISTRY._replace(incarnation=9)], for_s=FORGET_AFTER_S / 2 + EVERY_S)
    assert not process.knows(GATEWAY)
    assert {member.incarnation for member in process.hearsay._words} <= {8, 9}


def test_while_no_registry_speaks_nobody_is_forgotten(process: Listener) -> None:
    """They are away with Ray's GCS, or stood still, or we did. What they say first may be less than there is."""
    for _ in range(5):
        process.now_s += 10 * FORGET_AFTER_S
        process.hear(for_s=FORGET_AFTER_S / 2)
        assert process.knows(GATEWAY)


def test_one_of_several_registries_is_enough_to_stay_known(process: Listener) -> None:
    for _ in range(int(3 * FORGET_AFTER_S)):
        process.hear()
        process.hear(GATEWAY, by=[ANOTHER])
        process.now_s += EVERY_S
    assert process.knows(GATEWAY)


def test_of_several_registries_the_one_that_stays_forgets_for_all(process: Listener) -> None:
    """The other was lost, and was the last to name it."""
    process.hear(GATEWAY, by=[REGISTRY, ANOTHER], for_s=2 * FORGET_AFTER_S)
    process.hear(for_s=FORGET_AFTER_S - 2 * EVERY_S)
    assert process.knows(GATEWAY)
    process.hear(for_s=2 * EVERY_S)
    assert not process.knows(GATEWAY)


def test_who_is_connected_to_us_stays_known_and_has_its_time_afterwards(process: Listener) -> None:
    process.linked.add(GATEWAY)
    process.hear(for_s=3 * FORGET_AFTER_S)
    assert process.knows(GATEWAY)
    process.linked.clear()
    process.hear(for_s=FORGET_AFTER_S - 2 * EVERY_S)
    assert process.knows(GATEWAY)
    process.hear(for_s=2 * EVERY_S)
    assert not process.knows(GATEWAY)


def test_whom_the_newest_view_names_stays_known() -> None:
    process = Listener()
    process.hear(*ACCEPTORS, *REPLICAS, view=VIEW, for_s=2 * FORGET_AFTER_S)
    process.hear(REPLICAS[0], view=VIEW, for_s=2 * FORGET_AFTER_S)
    assert all(map(process.knows, (*ACCEPTORS, *REPLICAS)))
    smaller = View(1, (ACCEPTORS[0], Member(Role.ACCEPTOR, 1, 2)), (0, 2), 50)
    process.hear(REPLICAS[0], view=smaller, for_s=EVERY_S)
    assert [process.knows(member) for member in ACCEPTORS] == [True, False, False]
    assert [process.knows(member) for member in REPLICAS] == [True, False, True]


def test_registries_stay_known_so_that_a_forked_child_finds_them(process: Listener) -> None:
    process.hear(by=[ANOTHER])
    process.hear(for_s=3 * FORGET_AFTER_S)
    assert process.knows(ANOTHER)
