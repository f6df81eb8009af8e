"""What a client makes of connections: whom it takes for the leader, and whom it asks while it knows of none."""

from __future__ import annotations

from concoord_ray.config import Config
from concoord_ray.rsm.command import Entry, KeepAlive, Kept, Leading, NotLeader, Request
from concoord_ray.session import Courier

INTERVAL_S = Config().quorum_timeout_s / 10
CALL = Request(Entry(5, 1, (), b"command"))


def awaited_courier() -> Courier:
    one = Courier(Config(), 0.0)
    one.submit(CALL, 0.0)
    return one


def asked(one: Courier, now_s: float) -> list[int]:
    """Whom it asks for a sign of life."""
    one.tick(now_s)
    taken, one.outbox = one.outbox, []
    return [to for to, message in taken if message == KeepAlive(0, int(now_s * 1e9))]


def test_while_nobody_leads_all_who_are_connected_are_asked_now_and_then() -> None:
    one = awaited_courier()
    for index in (0, 1, 2):
        one.connected(index, 0.0)
    one.receive(1, NotLeader(None, has_quorum=True), 0.0)
    one.disconnected(2, 0.0)
    assert asked(one, INTERVAL_S / 2) == []
    assert sorted(asked(one, INTERVAL_S)) == [0, 1]
    assert asked(one, INTERVAL_S * 1.5) == []
    assert sorted(asked(one, INTERVAL_S * 2)) == [0, 1]


def test_one_that_answers_as_a_leader_does_leads_though_its_word_was_lost() -> None:
    one = awaited_courier()
    one.connected(0, 0.0)
    one.receive(0, Kept(0, 0), 0.1)
    assert one.leader == 0
    assert one.outbox == [(0, CALL)]


def test_but_not_in_the_place_of_one_that_has_said_so() -> None:
    one = awaited_courier()
    one.receive(1, Leading(), 0.0)
    one.connected(0, 0.0)
    one.receive(0, Kept(0, 0), 0.1)
    assert one.leader == 1


def test_another_life_of_the_leader_is_sent_what_its_predecessor_was() -> None:
    """The connection to the one before may be open still: it stands still somewhere."""
    one = awaited_courier()
    one.receive(0, Leading(), 0.0)
    one.outbox.clear()
    one.connected(0, 1.0)
    assert one.leader is None
    one.receive(0, Leading(), 1.0)
    assert one.outbox == [(0, CALL)]


def test_who_is_connected_and_says_nothing_is_not_called_unreachable() -> None:
    one = awaited_courier()
    one.connected(0, 0.0)
    text = str(one.absence())
    assert "replica 0, to which this process is connected, does not say who leads" in text
    one.disconnected(0, 0.0)
    assert "connected to none" in str(one.absence())
