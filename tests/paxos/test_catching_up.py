"""Who misses decisions asks for them, and for no more than one page at a time."""

from __future__ import annotations

from itertools import pairwise

from concoord_ray.paxos.messages import CatchUp, Decisions, Following, Heartbeat, Ping, Pong
from concoord_ray.paxos.replica import Replica
from tests.paxos.pieces import CONFIG, acceptor, ballot, follower, replica, sent

BEAT_S = CONFIG.heartbeat_interval_s


def asked(one: Replica) -> list[int]:
    """From where on it has asked since the last look, once a question."""
    return [send.message.from_slot for send in one.outputs.take().send if isinstance(send.message, CatchUp)]


def beat(one: Replica, now_s: float, decided: int = 100) -> list[int]:
    one.receive(replica(1), Heartbeat(0, ballot(1, 1), decided, 0), now_s)
    return asked(one)


def test_a_page_that_is_on_its_way_is_not_asked_for_again() -> None:
    """A link that needs longer for a page than a heartbeat's time would fill up with copies of it."""
    one = follower()
    assert beat(one, 1.0) == [0]
    times = [1.0 + count * BEAT_S for count in range(1, 40)]
    again = [now_s for now_s in times if beat(one, now_s)]
    gaps = [later - earlier for earlier, later in pairwise([1.0, *again])]
    assert gaps[0] >= CONFIG.retransmit_interval_s
    assert all(later > 1.5 * earlier for earlier, later in pairwise(gaps))
    assert len(again) >= 2, "a question may be lost"


def test_the_next_page_is_asked_for_as_soon_as_one_is_here() -> None:
    one = follower()
    assert beat(one, 1.0) == [0]
    one.receive(replica(1), Decisions(0, 0, (b"0", b"1"), 100), 1.001)
    assert asked(one) == [2]
    assert beat(one, 1.002) == []


def test_whoever_is_asked_and_gone_is_not_waited_for() -> None:
    one = follower()
    assert beat(one, 1.0) == [0]
    one.disconnected(replica(1), 1.01)
    one.receive(replica(2), Heartbeat(0, ballot(2, 2), 100, 0), 1.02)
    assert asked(one) == [0]


def heartbeat_of_leader(one: Replica, now_s: float) -> None:
    one.receive(replica(1), Heartbeat(0, ballot(3, 1), 0, 0), now_s)


def test_who_hears_from_the_leader_says_so_to_who_does_not() -> None:
    one = follower(0)
    heartbeat_of_leader(one, 1.0)
    one.outputs.take()
    one.receive(replica(2), CatchUp(0, 0), 1.1)
    assert sent(one.outputs) == [(replica(2), Following(0, ballot(3, 1)))]
    one.receive(replica(1), CatchUp(0, 0), 1.1)
    assert sent(one.outputs) == [], "the leader knows"


def test_old_news_of_the_leader_is_no_news() -> None:
    one = follower(0)
    heartbeat_of_leader(one, 1.0)
    one.outputs.take()
    one.receive(replica(2), CatchUp(0, 0), 1.0 + 5 * BEAT_S)
    assert sent(one.outputs) == []


def silent() -> tuple[Replica, float, int]:
    """A replica that has not heard from its leader for too long, now a candidate whom a majority answers."""
    one = follower(0)
    heartbeat_of_leader(one, 0.0)
    now_s = 2 * CONFIG.election_timeout_s
    one.outputs.take()
    one.tick(now_s)
    nonce = next(m.nonce for _, m in sent(one.outputs) if isinstance(m, Ping))
    for index in (0, 1):
        one.receive(acceptor(index), Pong(0, ballot(3, 1), nonce, 0), now_s)
    return one, now_s, nonce


def test_a_leader_whom_another_hears_is_not_deposed_for_a_link_that_is_cut() -> None:
    one, now_s, _ = silent()
    assert not one.leader.is_scouting
    one.receive(replica(2), Following(0, ballot(3, 1)), now_s + 0.01)
    one.tick(now_s + BEAT_S)
    assert not one.leader.is_scouting
    assert one.election.deadline_s >= now_s + CONFIG.election_timeout_s


def test_a_leader_whom_nobody_hears_is() -> None:
    one, now_s, _ = silent()
    one.receive(replica(2), Following(0, ballot(2, 2)), now_s + 0.01)  # It has not noticed that there is another.
    one.tick(now_s + BEAT_S)
    assert one.leader.is_scouting


def test_a_leader_whose_connection_was_closed_is_not_asked_after() -> None:
    """It is gone: its successor is found at once."""
    one = follower(2)
    heartbeat_of_leader(one, 0.0)
    one.disconnected(replica(1), 1.0)
    one.outputs.take()
    one.tick(1.0)
    nonce = next(m.nonce for _, m in sent(one.outputs) if isinstance(m, Ping))
    one.receive(replica(0), Following(0, ballot(3, 1)), 1.0005)  # It has not noticed yet.
    for index in (0, 1):
        one.receive(acceptor(index), Pong(0, ballot(3, 1), nonce, 0), 1.001)
    assert one.leader.is_scouting
