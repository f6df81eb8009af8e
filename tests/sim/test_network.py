"""The message network: both flavours, partitions, clogs, crashes."""

from __future__ import annotations

import pytest

from concoord_ray.paxos.view import Member, Role
from tests.sim.network import Flavour, NetworkProfile
from tests.sim.world import World

A, B, C = (Member(Role.REPLICA, index, 100 + index) for index in range(3))
FLAVOURS = [Flavour.DATAGRAM, Flavour.CONNECTION]


class Recorder:
    """An endpoint that writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Member, bytes]] = []

    def received(self, sender: Member, data: bytes) -> None:
        self.events.append(("received", sender, data))

    def opened(self, peer: Member) -> None:
        self.events.append(("opened", peer, b""))

    def closed(self, peer: Member) -> None:
        self.events.append(("closed", peer, b""))

    def data(self) -> list[bytes]:
        return [data for kind, _, data in self.events if kind == "received"]

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.events]


class Net:
    """Three members on hosts a, b, c; all connected, if it is that flavour."""

    def __init__(self, profile: NetworkProfile, seed: int = 1) -> None:
        self.world = World(seed, profile)
        self.network = self.world.network
        self.hosts = [self.world.host(name) for name in "abc"]
        self.recorders = {member: Recorder() for member in (A, B, C)}
        for member, host in zip((A, B, C), self.hosts, strict=True):
            self.network.attach(member, host, self.recorders[member])
        for member, peer in ((A, B), (A, C), (B, C)):
            self.network.connect(member, peer)
        self.world.run(1.0)

    def send(self, sender: Member, to: Member, *numbers: int) -> None:
        for number in numbers:
            self.network.send(sender, to, bytes([number]))

    def got(self, member: Member) -> list[int]:
        return [data[0] for data in self.recorders[member].data()]


def calm(flavour: Flavour) -> NetworkProfile:
    return NetworkProfile(flavour=flavour)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_message_arrives(flavour: Flavour) -> None:
    net = Net(calm(flavour))
    net.send(A, B, 1)
    net.world.run(1.0)
    assert ("received", A, b"\x01") in net.recorders[B].events
    assert net.got(A) == net.got(C) == []


def test_datagrams_are_lost_and_duplicated_and_reordered() -> None:
    net = Net(NetworkProfile(flavour=Flavour.DATAGRAM, loss_probability=0.2, duplicate_probability=0.2))
    net.send(A, B, *range(200))
    net.world.run(10.0)
    got = net.got(B)
    assert got != sorted(got)
    assert 0 < 200 - len(set(got)) < 100
    assert len(got) > len(set(got))
    counts = net.network.counts
    assert counts["sent"] + counts["duplicated"] == counts["delivered"] + counts["lost: loss"]


@pytest.mark.parametrize("seed", range(10))
def test_connections_are_reliable_and_keep_the_order(seed: int) -> None:
    net = Net(NetworkProfile(slow_probability=0.3, loss_probability=0.5, duplicate_probability=0.5), seed)
    net.send(A, B, *range(100))
    net.world.run(100.0)
    assert net.got(B) == list(range(100))
    assert net.recorders[B].kinds()[0] == "opened"


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_partition_blocks_both_ways_and_heals(flavour: Flavour) -> None:
    net = Net(calm(flavour))
    fault = net.network.links.partition("a", "bc")
    net.world.run(10.0)
    for sender, to in ((A, B), (B, A), (B, C)):
        net.send(sender, to, 1)
    net.world.run(10.0)
    assert [net.got(member) for member in (A, B, C)] == [[], [], [1]]
    net.network.links.repair(fault)
    net.world.run(10.0)
    net.send(A, B, 2)
    net.send(B, A, 3)
    net.world.run(1.0)
    assert [net.got(member) for member in (A, B, C)] == [[3], [2], [1]]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_an_asymmetric_cut_blocks_one_way(flavour: Flavour) -> None:
    net = Net(calm(flavour))
    net.network.links.cut([("a", "b")])
    net.send(A, B, 1)
    net.send(B, A, 2)
    net.world.run(0.1)
    assert (net.got(A), net.got(B)) == ([2], [])


def test_overlapping_cuts_end_apart() -> None:
    net = Net(calm(Flavour.DATAGRAM))
    first, second = net.network.links.partition("a", "bc"), net.network.links.cut([("a", "b")])
    net.network.links.repair(first)
    net.send(A, B, 1)
    net.send(A, C, 2)
    net.world.run(1.0)
    assert (net.got(B), net.got(C)) == ([], [2])
    net.network.links.repair(second)
    net.send(A, B, 3)
    net.world.run(1.0)
    assert net.got(B) == [3]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_clogged_link_holds_everything_until_it_is_unclogged(flavour: Flavour) -> None:
    net = Net(calm(flavour))
    fault = net.network.links.clog([("a", "b")])
    net.send(A, B, 1, 2, 3)
    net.send(B, A, 9)
    net.world.run(100.0)
    assert (net.got(A), net.got(B)) == ([9], [])
    net.network.links.repair(fault)
    net.world.run(1.0)
    assert sorted(net.got(B)) == [1, 2, 3]
    assert flavour is Flavour.DATAGRAM or net.got(B) == [1, 2, 3]


def test_a_short_cut_only_delays_a_connection() -> None:
    net = Net(NetworkProfile(detect_min_s=1.0))
    fault = net.network.links.partition("a", "b")
    net.send(A, B, 1, 2)
    net.world.run(0.5)
    net.network.links.repair(fault)
    net.world.run(10.0)
    assert net.got(B) == [1, 2]
    assert "closed" not in net.recorders[A].kinds() + net.recorders[B].kinds()


def test_a_long_cut_closes_both_ends_loses_what_was_under_way_and_reconnects() -> None:
    net = Net(calm(Flavour.CONNECTION))
    fault = net.network.links.partition("a", "b")
    net.send(A, B, 1)
    net.world.run(10.0)
    assert not net.network.is_open(A, B)
    assert not net.network.is_open(B, A)
    net.network.links.repair(fault)
    net.world.run(1.0)
    net.send(A, B, 2)
    net.world.run(1.0)
    with_b = [(kind, data) for kind, peer, data in net.recorders[A].events if peer == B]
    with_a = [(kind, data) for kind, peer, data in net.recorders[B].events if peer == A]
    assert with_b == [("opened", b""), ("closed", b""), ("opened", b"")]
    assert with_a == [("opened", b""), ("closed", b""), ("opened", b""), ("received", b"\x02")]


def test_a_one_way_cut_that_moves_to_the_other_way_is_still_noticed() -> None:
    net = Net(calm(Flavour.CONNECTION))
    first = net.network.links.cut([("a", "b")])
    net.world.run(0.1)
    net.network.links.cut([("b", "a")])
    net.network.links.repair(first)
    net.world.run(10.0)
    assert not net.network.is_open(A, B)
    assert not net.network.is_open(B, A)


def test_other_faults_that_come_and_go_do_not_put_off_the_noticing() -> None:
    net = Net(NetworkProfile(detect_min_s=1.0, detect_max_s=2.0))
    net.network.links.partition("a", "b")
    for _ in range(25):
        net.world.run(0.1)
        net.network.links.repair(net.network.links.cut([("b", "c")]))
    assert not net.network.is_open(A, B)
    assert not net.network.is_open(B, A)
    assert net.network.is_open(B, C)


@pytest.mark.parametrize("flush", [0.0, 1.0])
def test_a_crash_closes_the_peers_ends_after_what_was_sent_or_without_it(flush: float) -> None:
    net = Net(NetworkProfile(flush_on_crash_probability=flush))
    net.send(A, B, 1)
    net.hosts[0].crash()
    net.world.run(1.0)
    assert net.recorders[B].kinds()[-1] == "closed"
    assert net.got(B) == ([1] if flush else [])
    assert "closed" not in net.recorders[A].kinds()


def test_a_member_that_comes_back_is_connected_anew_and_hears_nothing_old() -> None:
    net = Net(calm(Flavour.CONNECTION))
    net.send(A, B, 1)
    net.hosts[1].crash()
    net.world.run(1.0)
    net.hosts[1].restart()
    again = Recorder()
    net.network.attach(B, net.hosts[1], again)
    net.world.run(1.0)
    net.send(A, B, 2)
    net.world.run(1.0)
    assert [(kind, data) for kind, peer, data in again.events if peer == A] == [("opened", b""), ("received", b"\x02")]
    assert net.got(B) == []


def test_a_paused_end_that_then_crashes_does_not_block_the_next_connection() -> None:
    net = Net(calm(Flavour.CONNECTION))
    net.hosts[1].pause()
    fault = net.network.links.partition("a", "b")
    net.world.run(10.0)
    net.network.links.repair(fault)
    net.hosts[1].crash()
    net.hosts[1].restart()
    net.network.attach(B, net.hosts[1], net.recorders[B])
    net.world.run(1.0)
    assert net.network.is_open(A, B)
    assert net.network.is_open(B, A)


def test_disconnect_closes_after_what_was_sent_and_stays_closed() -> None:
    net = Net(calm(Flavour.CONNECTION))
    net.send(A, B, 1, 2)
    net.network.disconnect(A, B)
    net.send(A, B, 3)
    net.world.run(10.0)
    assert net.got(B) == [1, 2]
    assert not net.network.is_open(A, B)
    assert net.recorders[A].kinds().count("closed") == net.recorders[B].kinds().count("closed") == 1


def test_a_paused_host_reads_its_messages_when_resumed() -> None:
    net = Net(calm(Flavour.CONNECTION))
    net.hosts[1].pause()
    net.send(A, B, 1, 2)
    net.world.run(10.0)
    assert net.got(B) == []
    net.hosts[1].resume()
    assert net.got(B) == [1, 2]


def test_a_member_attached_twice_or_not_at_all_is_refused() -> None:
    net = Net(calm(Flavour.DATAGRAM))
    with pytest.raises(ValueError, match="attached already"):
        net.network.attach(A, net.hosts[0], Recorder())
    net.network.detach(A)
    with pytest.raises(ValueError, match="not attached"):
        net.send(A, B, 1)


def test_messages_are_copies() -> None:
    net = Net(calm(Flavour.CONNECTION))
    buffer = bytearray(b"before")
    net.network.send(A, B, memoryview(buffer))  # type: ignore[arg-type]
    buffer[:] = b"after!"
    net.world.run(1.0)
    assert net.recorders[B].data() == [b"before"]
