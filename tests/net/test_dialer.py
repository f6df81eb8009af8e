"""A dialer keeps one connection to one target alive, and says when it can not."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import socket

import pytest

from concoord_ray.config import Config
from concoord_ray.errors import ConfigurationError, Unauthorized
from concoord_ray.net.backoff import Backoff
from concoord_ray.net.dialer import Dialer
from concoord_ray.net.identity import Address, Identity
from concoord_ray.net.listener import Listener
from concoord_ray.paxos.view import Member, Role
from tests.net.ends import CLIENT, CONFIG, REPLICA, SECRET, Loop, Pair, Recorder, config, run, until

NEXT_LIFE = Identity("default", Member(Role.REPLICA, 0, 0xC0FFEE))


def test_frames_go_both_ways_in_order(new_loop: Loop) -> None:
    async def main() -> None:
        async with Pair(echo=True) as pair:
            connection = pair.dialer.connection
            assert connection is pair.client.connections[0]
            assert connection.dialed
            assert connection.peer == REPLICA
            sent = [b"%d" % number * (number % 50 + 1) for number in range(2000)]
            for payload in sent:
                connection.send(payload)
            await until(lambda: len(pair.client.payloads) == len(sent))
            assert pair.client.payloads == sent

    run(new_loop, main())


def test_a_large_frame_arrives_whole(new_loop: Loop) -> None:
    async def main() -> None:
        async with Pair(echo=True) as pair:
            large = random.Random(7).randbytes(8 << 20)
            pair.client.connections[0].send(large)
            await until(lambda: bool(pair.client.payloads))
            assert pair.client.payloads == [large]

    run(new_loop, main())


def test_a_reader_that_pauses_holds_its_sender_back_and_loses_nothing(new_loop: Loop) -> None:
    async def main() -> None:
        async with Pair() as pair:
            reader, sender = pair.server.connections[0], pair.client.connections[0]
            reader.pause_reading()
            part = b"p" * (1 << 20)
            for _ in range(24):
                sender.send(part)
                await asyncio.sleep(0)
            assert sender.send_buffer_bytes > 0
            assert sum(map(len, pair.server.payloads)) < 24 << 20
            reader.resume_reading()
            await until(lambda: len(pair.server.payloads) == 24)
            assert pair.server.payloads == [part] * 24
            assert sender.send_buffer_bytes == 0

    run(new_loop, main())


def test_a_reader_that_never_resumes_is_cut(new_loop: Loop) -> None:
    async def main() -> None:
        async with Pair(config(max_send_buffer_bytes=1 << 20)) as pair:
            pair.server.connections[0].pause_reading()
            sender = pair.client.connections[0]
            await until(lambda: not sender.send(b"p" * (1 << 18)))
            await until(lambda: bool(pair.client.ended))
            assert "reads too slowly" in str(pair.client.ended[0][1])

    run(new_loop, main())


def test_a_lost_connection_is_dialed_again(new_loop: Loop) -> None:
    async def main() -> None:
        async with Pair() as pair:
            for lives in range(2, 5):
                pair.server.connections[-1].close()
                await until(lambda lives=lives: len(pair.client.connections) == lives)  # type: ignore[misc]
            assert len(pair.client.ended) == 3
            assert pair.dialer.connection is pair.client.connections[-1]

    run(new_loop, main())


def test_a_connection_that_falls_at_once_is_not_dialed_again_at_once(new_loop: Loop) -> None:
    async def main() -> None:
        async with Pair(config(reconnect_min_s=1000.0, reconnect_max_s=1000.0)) as pair:
            pair.server.connections[0].close()
            await until(lambda: len(pair.client.ended) == 1)
            await asyncio.sleep(0.1)
            assert len(pair.client.connections) == 1
            assert pair.dialer.connection is None

    run(new_loop, main())


def test_a_listener_that_comes_later_is_found(new_loop: Loop) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            address = Address(*reserved.getsockname())
        client = Recorder()
        dialer = Dialer(CLIENT, SECRET, CONFIG, client)
        dialer.dial(address)
        await asyncio.sleep(0.05)
        assert dialer.connection is None
        async with Listener(REPLICA, SECRET, CONFIG, Recorder()) as listener:
            await listener.start(*address)
            await until(lambda: dialer.connection is not None)
            dialer.close()
            await dialer.wait_closed()

    run(new_loop, main())


def test_retarget_drops_the_old_connection_and_opens_the_new(new_loop: Loop) -> None:
    async def main() -> None:
        async with Pair() as pair:
            moved = Listener(NEXT_LIFE, SECRET, CONFIG, Recorder())
            address = await moved.start("127.0.0.1", 0)
            pair.dialer.retarget(address, NEXT_LIFE.member)
            old = pair.client.connections[0]
            assert pair.dialer.connection is not old
            assert not old.is_open
            await until(lambda: pair.dialer.connection is not None)
            assert [connection.peer for connection in pair.client.connections] == [REPLICA, NEXT_LIFE]
            await until(lambda: len(pair.client.ended) == 1)
            assert pair.client.ended[0] == (old, None)
            # Saying it again changes nothing.
            pair.dialer.retarget(address, NEXT_LIFE.member)
            assert pair.dialer.connection is pair.client.connections[1]
            await moved.close()

    run(new_loop, main())


def test_another_incarnation_than_expected_is_reported_and_never_opened(new_loop: Loop) -> None:
    async def main() -> None:
        server, client = Recorder(), Recorder()
        mismatches: list[tuple[Member, Member]] = []
        async with Listener(NEXT_LIFE, SECRET, CONFIG, server) as listener:
            dialer = Dialer(
                CLIENT, SECRET, CONFIG, client, REPLICA.member, mismatch=lambda *both: mismatches.append(both)
            )
            address = await listener.start("127.0.0.1", 0)
            dialer.dial(address)
            await until(lambda: len(mismatches) >= 2)
            assert set(mismatches) == {(REPLICA.member, NEXT_LIFE.member)}
            assert client.connections == server.connections == []
            dialer.retarget(address, NEXT_LIFE.member)
            await until(lambda: dialer.connection is not None)
            dialer.close()
            await dialer.wait_closed()

    run(new_loop, main())


@pytest.mark.parametrize(
    ("identity", "secret", "error"),
    [
        (CLIENT, b"w" * 32, Unauthorized),
        (Identity("other", CLIENT.member), SECRET, ConfigurationError),
        (Identity("default", CLIENT.member, python="2.7"), SECRET, ConfigurationError),
        (Identity("default", CLIENT.member, protocol=0), SECRET, ConfigurationError),
    ],
)
def test_a_refusal_is_reported_and_tried_again_only_slowly(
    new_loop: Loop, identity: Identity, secret: bytes, error: type[Exception]
) -> None:
    async def main() -> None:
        failures: list[Exception] = []
        settings = config(refused_retry_s=1000.0)
        async with Listener(REPLICA, SECRET, settings, Recorder()) as listener:
            dialer = Dialer(identity, secret, settings, Recorder(), failed=failures.append)
            dialer.dial(await listener.start("127.0.0.1", 0))
            await until(lambda: bool(failures))
            assert isinstance(failures[0], error)
            await asyncio.sleep(0.2)  # many times reconnect_max_s
            assert len(failures) == 1
            assert listener.refused == 1
            dialer.close()
            await dialer.wait_closed()

    run(new_loop, main())


def test_a_refused_dialer_does_try_again(new_loop: Loop) -> None:
    async def main() -> None:
        failures: list[Exception] = []
        settings = config(refused_retry_s=0.02)
        async with Listener(REPLICA, SECRET, settings, Recorder()) as listener:
            dialer = Dialer(CLIENT, b"w" * 32, settings, Recorder(), failed=failures.append)
            dialer.dial(await listener.start("127.0.0.1", 0))
            await until(lambda: len(failures) >= 3)
            dialer.close()
            await dialer.wait_closed()

    run(new_loop, main())


@pytest.mark.parametrize("address", [Address("127.0.0.1", 70000), Address("x" * 70 + ".example", 1)])
def test_an_address_that_is_none_is_reported(new_loop: Loop, address: Address) -> None:
    async def main() -> None:
        failures: list[Exception] = []
        dialer = Dialer(CLIENT, SECRET, CONFIG, Recorder(), failed=failures.append)
        dialer.dial(address)
        await until(lambda: bool(failures))
        assert isinstance(failures[0], ConfigurationError)
        dialer.close()
        await dialer.wait_closed()

    run(new_loop, main())


def test_a_listener_that_never_answers_is_given_up_and_dialed_again(
    new_loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        greeted = 0

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal greeted
            greeted += 1
            await reader.read()
            writer.close()

        server = await asyncio.start_server(mute, "127.0.0.1", 0)
        dialer = Dialer(CLIENT, SECRET, config(handshake_timeout_s=0.02), Recorder())
        dialer.dial(Address(*server.sockets[0].getsockname()))
        await until(lambda: greeted >= 3)
        dialer.close()
        await dialer.wait_closed()
        server.close()
        await server.wait_closed()

    with caplog.at_level(logging.WARNING):
        run(new_loop, main())
    # The same failure again and again is one warning.
    assert caplog.text.count("was not through within 0.02 s") == 1


def test_close_in_the_middle_of_anything_leaves_nothing(new_loop: Loop) -> None:
    """Close after each number of turns in which the dial may stand somewhere else."""

    async def attempt(turns: int) -> None:
        server, client = Recorder(), Recorder()
        async with Listener(REPLICA, SECRET, CONFIG, server) as listener:
            dialer = Dialer(CLIENT, SECRET, CONFIG, client)
            dialer.dial(await listener.start("127.0.0.1", 0))
            for _ in range(turns):
                await asyncio.sleep(0)
            dialer.close()
            await dialer.wait_closed()
            assert dialer.connection is None
            assert len(client.ended) == len(client.connections)
        assert len(server.ended) == len(server.connections)

    for turns in range(40):
        run(new_loop, attempt(turns))
    gc.collect()  # What is left open says so here, not in a later test.


@pytest.mark.parametrize("seed", range(5))
def test_delays_grow_from_the_shortest_to_the_longest_and_start_over(seed: int) -> None:
    backoff = Backoff(0.02, 1.0, random.Random(seed))
    delays = [backoff.next_s() for _ in range(200)]
    assert all(0.02 <= delay <= 1.0 for delay in delays)
    assert delays[0] <= 0.04
    assert max(delays) > 0.5
    assert len(set(delays)) > 100  # jitter
    backoff.reset()
    assert backoff.next_s() <= 0.04


def test_a_longest_delay_below_the_shortest_is_the_shortest() -> None:
    settings = Config(reconnect_min_s=2.0)
    assert Backoff(settings.reconnect_min_s, settings.reconnect_max_s).next_s() == 2.0
