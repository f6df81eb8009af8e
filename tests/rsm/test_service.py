"""A replica as its clients see it: batches, replies, reads, leases and changes of leadership."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from concoord_ray.config import Config
from concoord_ray.objects.counter import Counter
from concoord_ray.objects.lock import Lock
from concoord_ray.objects.semaphore import Semaphore
from concoord_ray.paxos.view import Member, Role
from concoord_ray.rsm.command import Busy, KeepAlive, Kept, Leading, NotLeader, Read, Reply, Request
from concoord_ray.rsm.service import ToClient
from concoord_ray.rsm.wire import decode_batch, encode_message
from tests.cluster import Client, Cluster, entry_of
from tests.rsm.log import calling, refused
from tests.rsm.samples import Register

SMALL = Config(max_queued_commands=4, max_slots_in_flight=1, max_batch_commands=3, max_batch_bytes=400)


def isolate_acceptors(cluster: Cluster) -> None:
    cluster.cut.update(cluster.acceptors)


def expired(client: Client, seq: int) -> bool:
    ending = client.ended[seq]
    return isinstance(ending, Reply) and ending.outcome.name == "REFUSED" and refused(ending) == "SessionExpired"


# Batches.


def test_whatever_waits_when_the_loop_turns_becomes_one_slot() -> None:
    cluster = Cluster()
    client = cluster.client()
    counter = client.create(Counter)
    before = cluster.leader.executor.next_slot
    seqs = [client.submit(calling(counter, "increment")) for _ in range(100)]
    cluster.settle()
    assert [client.result(seq) for seq in seqs] == list(range(1, 101))
    assert cluster.leader.executor.next_slot == before + 1


def test_a_batch_is_bounded_in_commands_and_bytes() -> None:
    cluster = Cluster(Config(max_batch_commands=3, max_batch_bytes=400))
    client = cluster.client()
    register = client.create(Register)
    before = cluster.leader.executor.next_slot
    for size in (1, 1, 1, 1, 300, 300, 5000, 1):
        client.submit(calling(register, "append", "x" * size))
    cluster.settle()
    learner = cluster.leader.service.replica.learner
    batches = []
    for slot in range(before, learner.next_slot):
        value = learner.value_of(slot)
        assert value is not None
        batches.append(decode_batch(value).entries)
    assert sum(map(len, batches)) == 8
    for entries in batches:
        assert len(entries) <= 3
        assert len(entries) == 1 or sum(len(entry.command) for entry in entries) <= 400


def test_what_is_too_large_for_the_log_is_refused_before_it_is_proposed() -> None:
    """Every leader in turn would fail to propose it."""
    cluster = Cluster(Config(max_frame_bytes=64 << 10))
    client = cluster.client()
    register = client.create(Register)
    service = cluster.leader.service
    command = encode_message(calling(register, "append", "x" * (64 << 10)))
    service.receive_client(client.me, Request(entry_of(client, 77, command)), cluster.now_s)
    ((to, reply),) = service.to_clients
    assert to == client.me
    assert isinstance(reply, Reply)
    assert refused(reply) == "FrameTooLarge"
    assert client.call(register, "append", "small") == 1


def test_a_result_that_is_too_large_for_a_frame_is_an_error() -> None:
    """Every leader in turn would fail to send it."""
    cluster = Cluster(Config(max_frame_bytes=64 << 10))
    client = cluster.client()
    register = client.create(Register)
    for _ in range(3):
        client.call(register, "append", "x" * (30 << 10))
    seq = client.submit(calling(register, "get"), readonly=True)
    cluster.settle()
    ending = client.ended[seq]
    assert isinstance(ending, Reply)
    assert refused(ending) == "FrameTooLarge"


def test_a_full_queue_says_busy_and_the_command_comes_again() -> None:
    cluster = Cluster(SMALL)
    client = cluster.client()
    counter = client.create(Counter)
    seqs = [client.submit(calling(counter, "increment")) for _ in range(30)]
    cluster.run(5.0)
    assert [seq for seq in seqs if seq in client.ended] == seqs
    assert client.read(counter, "getvalue") == 30


def submit_by_hand(cluster: Cluster, client: Client, command: bytes, seqs: Iterable[int]) -> int:
    """Requests that come at once; how many the leader did not take."""
    service = cluster.leader.service
    service.to_clients.clear()
    for seq in seqs:
        service.receive_client(client.me, Request(entry_of(client, seq, command)), cluster.now_s)
    return sum(isinstance(message, Busy) for _, message in service.to_clients)


def test_what_is_taken_counts_until_it_is_executed() -> None:
    """User code may hold up the executor, and what is decided lies there."""
    cluster = Cluster(Config(max_queued_commands=4, max_slots_in_flight=16))
    client = cluster.client()
    counter = client.create(Counter)
    command = encode_message(calling(counter, "increment"))
    leader = cluster.leader
    leader.is_stuck = True
    assert submit_by_hand(cluster, client, command, range(100, 103)) == 0
    cluster.settle()
    assert leader.service.replica.learner.next_slot > leader.executor.next_slot
    assert submit_by_hand(cluster, client, command, range(103, 110)) == 6
    leader.is_stuck = False
    cluster.settle()
    assert submit_by_hand(cluster, client, command, range(110, 114)) == 0


def test_calls_that_wait_take_no_place_from_the_release_that_they_wait_for() -> None:
    cluster = Cluster(SMALL)
    client = cluster.client()
    lock = client.create(Lock)
    client.call(lock, "acquire")
    waiting = [client.submit(calling(lock, "acquire", owner=str(n))) for n in range(10 * SMALL.max_queued_commands)]
    cluster.run(10.0)
    assert client.call(lock, "release") is None
    assert client.result(waiting[0]) is True


def test_what_is_queued_is_bounded_in_bytes_too() -> None:
    cluster = Cluster(Config(max_queued_bytes=10_000))
    client = cluster.client()
    register = client.create(Register)
    command = encode_message(calling(register, "append", "x" * 3_000))
    assert submit_by_hand(cluster, client, command, range(100, 110)) == 6
    read = encode_message(calling(register, "get", "x" * 3_000))
    service = cluster.leader.service
    service.to_clients.clear()
    for seq in range(1, 11):
        service.receive_client(client.me, Read(entry_of(client, -seq, read)), cluster.now_s)
    assert sum(isinstance(message, Busy) for _, message in service.to_clients) == 6


def test_a_large_command_has_the_network_for_itself() -> None:
    cluster = Cluster(Config(max_bytes_in_flight=1_000, max_batch_bytes=5_000))
    client = cluster.client()
    register = client.create(Register)
    command = encode_message(calling(register, "append", "x" * 5_000))
    submit_by_hand(cluster, client, command, range(100, 104))
    leader = cluster.leader
    leader.service.flush(cluster.now_s, 0)
    assert leader.service.replica.leader.slots_in_flight == 1
    cluster.settle()
    assert len(client.read(register, "get")) == 4


def test_reads_that_nobody_confirms_do_not_pile_up() -> None:
    cluster = Cluster(SMALL)
    client = cluster.client()
    counter = client.create(Counter)
    leader = cluster.leader
    isolate_acceptors(cluster)
    for _ in range(10):
        client.submit(calling(counter, "getvalue"), readonly=True)
    outbox, client.courier.outbox = client.courier.outbox, []
    for _, message in outbox:
        leader.service.receive_client(client.me, message, cluster.now_s)
    told = [message for _, message in leader.service.to_clients if isinstance(message, Busy)]
    assert len(told) == 10 - SMALL.max_queued_commands


def test_only_so_many_large_results_are_made_at_a_time() -> None:
    cluster = Cluster(Config(read_results_bytes=100_000))
    client = cluster.client()
    register = client.create(Register)
    client.call(register, "append", "x" * 60_000)
    client.read(register, "get")
    reads = [client.submit(calling(register, "get"), readonly=True) for _ in range(40)]
    at_once = []
    service = cluster.leader.service
    while not all(seq in client.ended for seq in reads):
        service.flush(cluster.now_s, 0)
        at_once.append(len(service.reads))
        cluster._turn()
    assert max(at_once) == 1
    assert service._readings.is_full is False


def test_a_client_that_does_not_take_its_results_is_waited_for_alone() -> None:
    cluster = Cluster()
    slow, other = cluster.client(), cluster.client()
    counter = slow.create(Counter)
    service = cluster.leader.service
    service.crowded(slow.me)
    held = [slow.submit(calling(counter, "getvalue"), readonly=True) for _ in range(50)]
    assert other.read(counter, "getvalue") == 0
    assert not any(seq in slow.ended for seq in held)
    assert other.call(counter, "increment") == 1
    service.has_room(slow.me)
    cluster.settle()
    assert [slow.result(seq) for seq in held] == [1] * 50


def test_who_leaves_without_its_results_leaves_nothing_behind() -> None:
    cluster = Cluster()
    slow = cluster.client()
    counter = slow.create(Counter)
    service = cluster.leader.service
    service.crowded(slow.me)
    for _ in range(50):
        slow.submit(calling(counter, "getvalue"), readonly=True)
    cluster.settle()
    service.disconnected(slow.me, cluster.now_s)
    cluster.run(0.5)
    assert len(service._readings) == 0
    assert service._routes == {}


# Replies.


def test_a_request_that_is_on_its_way_is_not_proposed_again() -> None:
    cluster = Cluster()
    client, gateway = cluster.client(), Member(Role.GATEWAY, 0, 5)
    service = cluster.leader.service
    lock = client.create(Lock)
    client.call(lock, "acquire")
    parked = client.submit(calling(lock, "acquire"))
    cluster.settle()
    before = cluster.leader.executor.next_slot
    again = Request(entry_of(client, parked, encode_message(calling(lock, "acquire"))))
    for source in (client.me, gateway, gateway):
        service.receive_client(source, again, cluster.now_s)
    cluster.settle()
    assert cluster.leader.executor.next_slot == before
    service.to_clients.clear()
    client.submit(calling(lock, "release"))
    cluster.cut.add(gateway)
    cluster.settle()
    assert client.result(parked) is True


def test_everyone_who_asks_is_answered_once() -> None:
    cluster = Cluster()
    client = cluster.client()
    service = cluster.leader.service
    counter = client.create(Counter)
    askers = [Member(Role.GATEWAY, index, 5) for index in range(3)]
    request = Request(entry_of(client, 77, encode_message(calling(counter, "increment"))))
    for asker in [*askers, *askers]:
        service.receive_client(asker, request, cluster.now_s)
    service.flush(cluster.now_s, 0)
    sent: list[Member] = []
    for _ in range(10):
        cluster.leader.execute(cluster.now_s)
        sent += [to for to, message in service.to_clients if isinstance(message, Reply)]
        cluster._turn()
    assert sorted(sent) == askers
    assert client.read(counter, "getvalue") == 1
    assert service._routes == {}


def test_whoever_asks_a_follower_is_told_who_leads() -> None:
    cluster = Cluster()
    client = cluster.client()
    leader = cluster.leader
    follower = next(node for node in cluster.nodes.values() if node is not leader)
    follower.service.receive_client(client.me, Request(entry_of(client, 5)), cluster.now_s)
    assert follower.service.to_clients == [(client.me, NotLeader(leader.me.index, True))]


def test_routes_do_not_outlive_their_answers() -> None:
    cluster = Cluster()
    client = cluster.client()
    counter = client.create(Counter)
    for _ in range(20):
        client.call(counter, "increment")
        client.read(counter, "getvalue")
    cluster.run(1.0)
    service = cluster.leader.service
    assert service._routes == {}
    assert len(service._readings) == 0


# Changes of leadership.


def test_a_call_executes_once_whatever_leader_it_was_sent_to() -> None:
    cluster = Cluster()
    client = cluster.client()
    counter = client.create(Counter)
    old = cluster.leader
    old.is_stuck = True  # It decides, and is lost before it answers.
    seq = client.submit(calling(counter, "increment"))
    cluster.settle()
    assert seq not in client.ended
    cluster.kill(old.me.index)
    cluster.run(3.0)
    assert client.result(seq) == 1
    assert client.read(counter, "getvalue") == 1


def test_a_waiting_call_keeps_its_place_across_a_change_of_leader() -> None:
    cluster = Cluster()
    holder, first, second = cluster.client(), cluster.client(), cluster.client()
    lock = holder.create(Lock)
    holder.call(lock, "acquire")
    waiting = {client: client.submit(calling(lock, "acquire")) for client in (first,)}
    cluster.settle()
    waiting[second] = second.submit(calling(lock, "acquire"))
    cluster.settle()
    cluster.kill(cluster.leader.me.index)
    cluster.run(3.0)
    holder.call(lock, "release")
    assert first.result(waiting[first]) is True
    assert waiting[second] not in second.ended
    first.call(lock, "release")
    assert second.result(waiting[second]) is True


def test_a_replica_that_restarts_empty_catches_up_and_does_not_take_over() -> None:
    cluster = Cluster()
    client = cluster.client()
    counter = client.create(Counter)
    cluster.kill(0)
    cluster.run(3.0)
    for _ in range(20):
        client.call(counter, "increment")
    leader = cluster.leader
    reborn = cluster.restart(0)
    cluster.run(4.0)
    assert cluster.leader is leader
    assert reborn.executor.next_slot == leader.executor.next_slot
    cluster.kill(leader.me.index)
    cluster.run(4.0)
    assert client.read(counter, "getvalue") == 20


def test_without_a_majority_nothing_is_answered_and_clients_are_told() -> None:
    cluster = Cluster()
    client = cluster.client()
    counter = client.create(Counter)
    isolate_acceptors(cluster)
    write = client.submit(calling(counter, "increment"))
    read = client.submit(calling(counter, "getvalue"), readonly=True)
    cluster.run(5.0)
    assert client.courier.leader is None
    assert not client.ended.keys() & {write, read}
    cluster.heal()
    cluster.run(5.0)
    assert client.result(write) == 1


# Reads.


def test_a_leader_that_was_deposed_without_knowing_serves_no_reads() -> None:
    cluster = Cluster()
    client, other = cluster.client(), cluster.client()
    counter = client.create(Counter)
    old = cluster.leader
    replicas = [node.me for node in cluster.nodes.values()]
    cluster.cut.update({frozenset((old.me, peer)) for peer in (*cluster.acceptors, *replicas)})
    cluster.cut.add(frozenset((other.me, old.me)))
    for node in cluster.nodes.values():
        if node is not old:
            node.service.disconnected(old.me, cluster.now_s)
    other.courier.disconnected(old.me.index, cluster.now_s)
    cluster.run(0.6)
    led = [old.service.replica.is_leader]
    assert other.call(counter, "increment") == 1
    old.service.receive_client(client.me, Read(entry_of(client, -9, encode_message(calling(counter, "getvalue")))), 0.0)
    for _ in range(5):
        cluster._turn()
        assert old.service.reads == []
    cluster.run(3.0)
    led.append(old.service.replica.is_leader)
    assert led == [True, False]
    assert client.read(counter, "getvalue") == 1


def test_a_read_sees_every_write_that_was_answered_before_it_arrived() -> None:
    cluster = Cluster()
    client = cluster.client()
    counter = client.create(Counter)
    for value in range(1, 6):
        assert client.call(counter, "increment") == value
        assert client.read(counter, "getvalue") == value
    cluster.kill(cluster.leader.me.index)
    cluster.run(3.0)
    assert client.read(counter, "getvalue") == 5


def test_a_read_enters_no_slot() -> None:
    cluster = Cluster()
    client = cluster.client()
    counter = client.create(Counter)
    cluster.run(1.0)
    before = cluster.leader.executor.next_slot
    for _ in range(5):
        client.read(counter, "getvalue")
    assert cluster.leader.executor.next_slot == before


def test_a_read_under_way_when_the_leader_changes_is_answered_by_the_next() -> None:
    cluster = Cluster()
    client = cluster.client()
    counter = client.create(Counter)
    old = cluster.leader
    cluster.cut.update({frozenset((old.me, acceptor)) for acceptor in cluster.acceptors})
    seq = client.submit(calling(counter, "getvalue"), readonly=True)
    cluster.settle()
    cluster.run(6.0)
    assert cluster.leader is not old
    assert client.result(seq) == 0


# Time and leases.


def test_a_wait_times_out_although_nothing_else_happens() -> None:
    cluster = Cluster()
    client = cluster.client()
    semaphore = client.create(Semaphore, 0)
    started_s = cluster.now_s
    seqs = [client.submit(calling(semaphore, "acquire", timeout=timeout)) for timeout in (1e-12, 0.5)]
    cluster.settle()
    cluster.run(0.4)
    assert [seq in client.ended for seq in seqs] == [True, False]
    while seqs[1] not in client.ended:
        cluster.run(0.02)
        assert cluster.now_s - started_s < 1.0
    assert [client.result(seq) for seq in seqs] == [False, False]


def test_a_wait_times_out_under_the_next_leader() -> None:
    cluster = Cluster()
    client = cluster.client()
    semaphore = client.create(Semaphore, 0)
    seq = client.submit(calling(semaphore, "acquire", timeout=2.0))
    cluster.settle()
    cluster.kill(cluster.leader.me.index)
    cluster.run(6.0)
    assert client.result(seq) is False


def test_a_silent_client_loses_what_it_holds_and_a_live_one_does_not() -> None:
    cluster = Cluster(Config(session_ttl_s=2.0))
    silent, alive = cluster.client(), cluster.client()
    lock, own = silent.create(Lock), alive.create(Lock)
    silent.call(lock, "acquire")
    alive.call(own, "acquire")
    waiting = alive.submit(calling(lock, "acquire"))
    cluster.run(4.0)
    assert waiting not in alive.ended
    cluster.cut.add(silent.me)
    cluster.run(4.0)
    assert alive.result(waiting) is True
    assert alive.read(own, "locked") is True
    cluster.heal()
    late = silent.submit(calling(lock, "release"))
    cluster.settle()
    assert expired(silent, late)


def test_a_leader_that_is_cut_off_from_the_acceptors_says_nothing_of_leases() -> None:
    """Its successor judges them by then, and may find this one over."""
    cluster = Cluster()
    client = cluster.client()
    keep_alive = KeepAlive(client.session.id or 0, 1)
    service = cluster.leader.service

    def answer(now_s: float) -> list[ToClient]:
        service.to_clients.clear()
        service.receive_client(client.me, keep_alive, now_s)
        return service.to_clients

    heard_at_s = service.replica.majority_heard_at_s
    assert answer(heard_at_s + 0.2) == [(client.me, Kept(keep_alive.session, 1))]
    assert answer(heard_at_s + 1.0) == []


def test_a_new_leader_gives_every_session_a_whole_lease() -> None:
    cluster = Cluster(Config(session_ttl_s=2.0))
    client = cluster.client()
    counter = client.create(Counter)
    cluster.cut.add(client.me)
    cluster.run(1.7)
    cluster.kill(cluster.leader.me.index)
    cluster.run(1.0)
    cluster.heal()
    cluster.run(1.0)
    assert client.call(counter, "increment") == 1


@pytest.mark.parametrize("role", [Role.CLIENT, Role.GATEWAY])
def test_a_read_is_a_sign_of_life_as_a_call_is_unless_a_gateway_brings_it(role: Role) -> None:
    """Ray may run a dead process's calls."""
    cluster = Cluster()
    client = cluster.client()
    counter = client.create(Counter)
    assert client.session.id is not None
    service = cluster.leader.service
    lease = service._leases[client.session.id]
    before_s = lease.until_s
    cluster.now_s += 1.0
    sender = client.me if role is Role.CLIENT else Member(role, 9, 9)
    service.receive_client(
        sender, Read(entry_of(client, -7, encode_message(calling(counter, "getvalue")))), cluster.now_s
    )
    assert (lease.until_s > before_s) == (role is Role.CLIENT)


def test_a_pause_of_the_leader_is_not_the_clients_silence() -> None:
    cluster = Cluster(Config(session_ttl_s=2.0))
    client = cluster.client()
    counter = client.create(Counter)
    cluster.run(1.0)
    cluster.now_s += 60.0
    cluster.run(3.0)
    assert client.call(counter, "increment") == 1


# Who leads, as clients hear it.


@pytest.mark.parametrize("kind", [Role.CLIENT, Role.GATEWAY])
def test_a_client_hears_at_once_who_leads_and_every_change(kind: Role) -> None:
    cluster = Cluster()
    newcomer = Member(kind, 9, 9)
    service = cluster.leader.service
    service.connected(newcomer, cluster.now_s)
    assert service.to_clients == [(newcomer, Leading())]
    service.to_clients.clear()
    isolate_acceptors(cluster)
    while service.replica.is_leader:
        cluster.now_s += 0.1
        service.tick(cluster.now_s)
    assert service.to_clients == [(newcomer, NotLeader(None, False))]
    service.disconnected(newcomer, cluster.now_s)
    assert newcomer not in service._clients


def test_whoever_waits_can_ask_the_leader_whether_it_lives() -> None:
    """A gateway has no session, and calls that are parked with an idle leader hear nothing for hours."""
    cluster = Cluster()
    service = cluster.leader.service
    gateway = Member(Role.GATEWAY, 3, 9)
    service.to_clients.clear()
    service.receive_client(gateway, KeepAlive(0, 17), cluster.now_s)
    assert service.to_clients == [ToClient(gateway, Kept(0, 17))]
