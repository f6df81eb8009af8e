"""How a process says which replies it has: none of it is lost, whatever becomes of the entry that carries it."""

from __future__ import annotations

import pytest

from concoord_ray.rsm.command import Acknowledge, Busy, Cancel, KeepAlive, Leading, NotLeader, Request
from concoord_ray.rsm.wire import decode_command
from concoord_ray.session import Session
from tests.test_session import CONFIG, commands, reply, sent, session


def test_the_next_command_carries_the_acknowledgements() -> None:
    one, _ = session()
    for seq in (1, 2, 3, 7):
        one.acknowledge(seq, 0.0)
    assert one.entry(Cancel(0)).acks == ((1, 3), (7, 7))
    assert one.entry(Cancel(0)).acks == ()


def test_what_goes_through_a_gateway_carries_no_acknowledgements() -> None:
    """It may never get there, for want of one of its arguments or of room, and nobody here is told."""
    one, _ = session()
    one.acknowledge(1, 0.0)
    assert one.entry(Cancel(0), travels=True).acks == ()
    assert one.entry(Cancel(0)).acks == ((1, 1),)


@pytest.mark.parametrize("given_up", ["taken back", "forgotten", "for want of a leader", "since it is busy"])
def test_what_an_entry_carried_that_was_given_up_another_one_carries(given_up: str) -> None:
    is_leader_known = given_up != "taken back"
    one, carrier = session(0 if is_leader_known else None)
    for seq in (1, 2, 3, 7):
        one.acknowledge(seq, 0.0)
    entry = one.entry(Cancel(0))
    carrier.submit(Request(entry), 0.0)
    late_s = 2 * CONFIG.quorum_timeout_s
    if given_up == "taken back":
        assert carrier.take_back(5, entry.seq)
    elif given_up == "forgotten":
        carrier.forget(5, entry.seq)
    elif given_up == "for want of a leader":
        carrier.receive(0, NotLeader(None, True), 0.0)
        carrier.tick(late_s)
    else:
        carrier.receive(0, Busy(5, entry.seq), 0.0)
        carrier.tick(late_s)
    carrier.receive(0, Leading(), late_s)
    assert not carrier.may_have_run(5, entry.seq)
    one.tick(late_s)
    assert one.entry(Cancel(0)).acks == ((1, 3), (7, 7))


def test_acknowledgements_that_travelled_alone_in_vain_travel_again() -> None:
    one, carrier = session()
    carrier.receive(0, reply(77, session=0), 0.0)
    one.acknowledge(1, 0.0)
    now_s = CONFIG.acknowledge_interval_s
    one.tick(now_s)
    carrier.receive(0, NotLeader(None, True), now_s)
    now_s += 2 * CONFIG.quorum_timeout_s
    carrier.tick(now_s)
    carrier.receive(0, Leading(), now_s)
    sent(carrier)
    one.tick(now_s)
    one.tick(now_s + CONFIG.acknowledge_interval_s)
    (acks,) = [each.entry.acks for _, each in sent(carrier) if isinstance(each, Request)]
    assert acks == ((1, 1),)


def test_a_new_session_says_nothing_of_what_one_before_it_had() -> None:
    one, carrier = session()
    one.acknowledge(1, 0.0)
    entry = one.entry(Cancel(0))
    carrier.submit(Request(entry), 0.0)
    carrier.forget(5, entry.seq)
    other = Session(carrier, CONFIG, nonce=78, description="me", now_s=0.0)
    other.opened(6)
    other.tick(0.0)
    assert other.entry(Cancel(0)).acks == ()


def test_acknowledgements_that_no_command_carries_travel_alone_after_a_while() -> None:
    one, carrier = session()
    one.tick(0.0)
    sent(carrier)
    one.acknowledge(1, 0.0)
    one.tick(CONFIG.acknowledge_interval_s / 2)
    assert commands(carrier) == []
    one.tick(CONFIG.acknowledge_interval_s)
    ((_, message),) = sent(carrier)
    assert isinstance(message, Request)
    assert message.entry.acks == ((1, 1),)
    assert decode_command(message.entry.command) == Acknowledge()
    one.tick(CONFIG.acknowledge_interval_s * 3)
    assert all(isinstance(each, KeepAlive) for each in commands(carrier))
