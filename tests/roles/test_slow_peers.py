"""Peers that do not take what they are sent: it waits, or is left out, and nobody else waits with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from concoord_ray.errors import Overloaded
from concoord_ray.paxos.ballot import Ballot
from concoord_ray.paxos.messages import Decisions, Heartbeat, P1b, P2a, Ping, PValue
from concoord_ray.paxos.outputs import Send
from concoord_ray.paxos.view import Member, Role
from concoord_ray.roles.boot import Whereabouts, decode
from concoord_ray.roles.bulk import Bulk
from concoord_ray.roles.gateway import GatewayRole, Parcel
from concoord_ray.roles.replies import Replies
from concoord_ray.rsm.command import Call, Entry, Kept, Leading, Outcome, Reply, Request, ServiceMessage
from concoord_ray.rsm.wire import encode_message, encode_plain
from tests.roles.conftest import LEADER, NoDiscovery, Sent, boot

SLOW, QUICK = Member(Role.CLIENT, 0, 1), Member(Role.CLIENT, 0, 2)
LARGE = b"x" * (1 << 20)
BALLOT = Ballot(1, 0, 7)


class Lines:
    """Stands for ``Links``: who has room, and what was sent to whom."""

    def __init__(self) -> None:
        self.crowded: set[Member] = set()
        self.sent: list[tuple[Member, Any]] = []
        self.wanted: dict[Member, Callable[[], None]] = {}
        self.closed: list[Member] = []
        self.urgent: list[bool] = []
        #: Whether everything sent has left, and how often somebody has looked.
        self.has_left = False
        self.looks = 0

    @property
    def has_passed(self) -> bool:
        self.looks += 1
        return self.has_left

    def has_room(self, to: Member) -> bool:
        return to not in self.crowded

    def when_room(self, to: Member, callback: Callable[[], None]) -> None:
        self.wanted[to] = callback

    def send(self, to: Member, payload: bytes, *, urgent: bool = False) -> bool:
        self.sent.append((to, decode(payload)))
        self.urgent.append(urgent)
        return True

    def mark(self, to: Member) -> Lines:
        return self

    def disconnect(self, member: Member) -> None:
        self.closed.append(member)


# Replies to clients.


def replies(lines: Any, told: list[tuple[str, Member]], limit: int = 100) -> Replies:
    return Replies(lines, limit, lambda who: told.append(("crowded", who)), lambda who: told.append(("room", who)))


def answer(seq: int) -> ServiceMessage:
    return Reply(5, seq, Outcome.PLAIN, b"")


def test_answers_wait_for_who_does_not_take_them_and_for_nobody_else() -> None:
    lines, told = Lines(), list[tuple[str, Member]]()
    one = replies(lines, told)
    lines.crowded.add(SLOW)
    for seq in (1, 2, 3):
        one.send(SLOW, answer(seq))
        one.send(QUICK, answer(seq))
    assert lines.sent == [(QUICK, answer(seq)) for seq in (1, 2, 3)]
    assert told == [("crowded", SLOW)]
    lines.crowded.clear()
    one.send(SLOW, answer(4))  # Behind the others.
    lines.wanted[SLOW]()
    assert lines.sent[3:] == [(SLOW, answer(seq)) for seq in (1, 2, 3, 4)]
    assert told == [("crowded", SLOW), ("room", SLOW)]


def test_what_waits_for_who_has_left_is_forgotten() -> None:
    lines, told = Lines(), list[tuple[str, Member]]()
    one = replies(lines, told)
    lines.crowded.add(SLOW)
    one.send(SLOW, answer(1))
    one.disconnected(SLOW)
    lines.crowded.clear()
    lines.wanted[SLOW]()
    assert lines.sent == []


def test_the_word_that_a_lease_is_kept_waits_for_no_answer() -> None:
    lines, told = Lines(), list[tuple[str, Member]]()
    one = replies(lines, told)
    lines.crowded.add(SLOW)
    one.send(SLOW, answer(1))
    one.send(SLOW, Kept(5, 77))
    assert lines.sent == [(SLOW, Kept(5, 77))]
    assert lines.urgent == [True]


def test_who_asks_without_end_and_takes_nothing_is_left() -> None:
    lines, told = Lines(), list[tuple[str, Member]]()
    one = replies(lines, told, limit=10)
    lines.crowded.add(SLOW)
    for seq in range(11):
        one.send(SLOW, answer(seq))
    assert lines.closed == [SLOW]


# Large values to peers.


def to_peers(lines: Lines) -> Bulk:
    return Bulk(lines, 0.25)


def sent_to(lines: Lines, bulk: Bulk, message: Any, now_s: float, to: tuple[Member, ...] = (QUICK,)) -> list[Member]:
    """To whom of ``to`` the message goes."""
    lines.sent.clear()
    bulk.send([Send(to, message)], now_s)
    assert all(sent == message for _, sent in lines.sent)
    return [member for member, _ in lines.sent]


@pytest.mark.parametrize(
    "message",
    [
        P2a(0, BALLOT, 5, LARGE),
        Decisions(0, 5, (LARGE,), 6),
        P1b(0, BALLOT, BALLOT, 5, (PValue(BALLOT, 5, LARGE),), None, 0),
    ],
)
def test_a_large_value_is_not_sent_to_whom_others_wait_for(message: Any) -> None:
    lines = Lines()
    lines.crowded.add(SLOW)
    bulk = to_peers(lines)
    assert sent_to(lines, bulk, message, 0.0, (SLOW, QUICK)) == [QUICK]
    lines.crowded.clear()
    assert sent_to(lines, bulk, message, 0.25, (SLOW, QUICK)) == [SLOW]


def test_a_small_one_always_is() -> None:
    lines = Lines()
    lines.crowded.add(SLOW)
    bulk, message = to_peers(lines), P2a(0, BALLOT, 5, b"small")
    assert [sent_to(lines, bulk, message, now_s, (SLOW,)) for now_s in (0.0, 0.1)] == [[SLOW], [SLOW]]


def test_a_large_value_is_repeated_long_after_it_has_left_or_when_its_connection_was_lost() -> None:
    lines = Lines()
    bulk = to_peers(lines)
    one, other = P2a(0, BALLOT, 5, LARGE), P2a(0, BALLOT, 6, LARGE)
    assert sent_to(lines, bulk, one, 0.0) == sent_to(lines, bulk, other, 0.0) == [QUICK]
    assert sent_to(lines, bulk, one, 100.0) == sent_to(lines, bulk, other, 100.0) == []
    lines.has_left = True
    assert sent_to(lines, bulk, one, 101.0) == sent_to(lines, bulk, one, 102.9) == []
    lines.has_left = False
    assert sent_to(lines, bulk, one, 103.1) == [QUICK]
    assert sent_to(lines, bulk, one, 106.0) == []
    bulk.disconnected(QUICK)
    assert sent_to(lines, bulk, one, 106.0) == [QUICK]


def test_a_page_of_decisions_is_not_sent_while_another_that_brings_its_first_slot_is_on_its_way() -> None:
    """A heartbeat overtakes the decisions that it counts, and whoever it tells of them asks for them."""
    lines = Lines()
    bulk = to_peers(lines)
    assert sent_to(lines, bulk, Decisions(0, 5, (LARGE, LARGE), 7), 0.0) == [QUICK]
    assert sent_to(lines, bulk, Decisions(0, 6, (LARGE, LARGE), 8), 0.1) == []
    assert sent_to(lines, bulk, Decisions(0, 7, (LARGE,), 8), 0.1) == [QUICK]
    assert sent_to(lines, bulk, P2a(0, BALLOT, 5, LARGE), 0.1) == [QUICK]


def test_a_value_costs_the_same_however_many_are_on_their_way() -> None:
    lines = Lines()
    bulk = to_peers(lines)
    values = [P2a(0, BALLOT, slot, LARGE[: 70 << 10]) for slot in range(300)]
    for value in values:
        assert sent_to(lines, bulk, value, 0.0) == [QUICK]
    assert all(sent_to(lines, bulk, value, 0.1) == [] for value in values)
    assert lines.looks <= 2 * len(values)
    lines.has_left = True
    assert sent_to(lines, bulk, values[0], 0.2) == []
    assert lines.looks <= 3 * len(values) + 1
    assert all(sent_to(lines, bulk, value, 2.3) == [QUICK] for value in values)


def test_a_page_that_left_later_is_not_forgotten_with_one_that_has_the_same_slots() -> None:
    lines = Lines()
    bulk = to_peers(lines)
    assert sent_to(lines, bulk, Decisions(0, 5, (LARGE, LARGE), 7), 0.0) == [QUICK]
    lines.has_left = True
    assert sent_to(lines, bulk, Decisions(0, 4, (LARGE, LARGE, LARGE), 7), 1.0) == [QUICK]
    assert sent_to(lines, bulk, Decisions(0, 6, (LARGE,), 7), 2.5) == []
    assert sent_to(lines, bulk, Decisions(0, 6, (LARGE,), 7), 5.0) == [QUICK]


def test_what_shows_that_somebody_lives_is_urgent_and_values_are_not() -> None:
    lines = Lines()
    bulk = to_peers(lines)
    for message in (P2a(0, BALLOT, 5, b"v"), Heartbeat(0, BALLOT, 5, 0), Ping(0, 1, 0), Decisions(0, 5, (b"v",), 6)):
        sent_to(lines, bulk, message, 0.0)
    assert lines.urgent == [False, True, True, False]


# A gateway.


def parcel(seq: int, *, may_park: bool = False) -> Parcel:
    command = encode_message(Call(1, "acquire", "1", b""))
    return Parcel(Entry(7, seq, (), command), readonly=False, order=seq, may_park=may_park)


def test_a_gateway_refuses_what_is_too_much_and_lets_the_rest_go_on(sent: Sent) -> None:
    async def main() -> None:
        gateway = GatewayRole(
            boot(Role.GATEWAY, max_calls_per_gateway=2, session_ttl_s=0.4),
            Whereabouts("127.0.0.1", "node", 1),
            NoDiscovery(),
        )
        gateway.connected(LEADER)
        gateway.receive(LEADER, [Leading()])
        await asyncio.sleep(0.5)  # In its first moments it refuses nothing: Ray runs again what was under way.
        parked = [asyncio.create_task(gateway.call(parcel(seq, may_park=True), ())) for seq in (0, 1)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="gateway"):
            await gateway.call(parcel(2, may_park=True), ())
        release = asyncio.create_task(gateway.call(parcel(3), ()))
        await asyncio.sleep(0)
        # Which does not wait for the one that was refused before it.
        assert [message.entry.seq for _, message in sent if isinstance(message, Request)] == [0, 1, 3]
        gateway.receive(LEADER, [Reply(7, seq, Outcome.PLAIN, encode_plain(True)) for seq in (3, 0, 1)])
        assert await asyncio.gather(release, *parked) == [True] * 3
        again = asyncio.create_task(gateway.call(parcel(4, may_park=True), ()))
        await asyncio.sleep(0)
        again.cancel()

    asyncio.run(main())


# A client or gateway.


def test_large_requests_follow_what_the_connection_takes(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        gateway = GatewayRole(boot(Role.GATEWAY), Whereabouts("127.0.0.1", "node", 1), NoDiscovery())
        lines = Lines()
        monkeypatch.setattr(gateway.node.links, "has_room", lines.has_room)
        monkeypatch.setattr(gateway.node.links, "when_room", lines.when_room)
        gateway.connected(LEADER)
        gateway.receive(LEADER, [Leading()])
        lines.crowded.add(LEADER)
        calls = [asyncio.create_task(gateway.call(parcel(seq), ())) for seq in range(3)]
        await asyncio.sleep(0)
        assert sent == []
        lines.crowded.clear()
        lines.wanted[LEADER]()
        assert [message.entry.seq for _, message in sent if isinstance(message, Request)] == [0, 1, 2]
        # What is held for a leader that is none any more is for the next one.
        lines.crowded.add(LEADER)
        calls.append(asyncio.create_task(gateway.call(parcel(3), ())))
        await asyncio.sleep(0)
        other = Member(Role.REPLICA, 1, 18)
        sent.clear()
        gateway.connected(other)
        gateway.receive(other, [Leading()])
        assert [(to, message.entry.seq) for to, message in sent if isinstance(message, Request)] == [
            (other, seq) for seq in range(4)
        ]
        for call in calls:
            call.cancel()

    asyncio.run(main())
