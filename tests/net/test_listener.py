"""Strangers at a listening port: they get nothing but a closed connection, and never too much of it."""

from __future__ import annotations

import asyncio
import errno
import socket

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concoord_ray.errors import ConfigurationError
from concoord_ray.net import listener as listener_module
from concoord_ray.net.frame import frame
from concoord_ray.net.handshake import ConnectorHandshake, Hello, Refusal
from concoord_ray.net.identity import Address
from concoord_ray.net.listener import Listener
from tests.net.ends import CLIENT, CONFIG, REPLICA, SECRET, Loop, Pair, Recorder, Stranger, config, run, until

HELLO = frame(msgspec.msgpack.encode(Hello(CLIENT, b"n" * 32)))


@pytest.mark.parametrize(
    ("says", "refusal"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", Refusal.MALFORMED, id="http"),
        pytest.param(b"\x00\x00\x00\x00", Refusal.MALFORMED, id="empty frame"),
        pytest.param((4097).to_bytes(4, "big"), Refusal.MALFORMED, id="a frame above the strangers' limit"),
        pytest.param(frame(b"\xff" * 100), Refusal.MALFORMED, id="garbage in a frame"),
        pytest.param(HELLO + frame(b"\xff" * 100), Refusal.MALFORMED, id="garbage after the hello"),
        pytest.param(HELLO + HELLO, Refusal.MALFORMED, id="a hello twice"),
        pytest.param(HELLO + frame(msgspec.msgpack.encode(["concoord.proof", b"p" * 32])), Refusal.UNAUTHORIZED),
    ],
)
def test_a_stranger_that_does_not_prove_itself_is_closed_and_counted(
    new_loop: Loop, says: bytes, refusal: Refusal
) -> None:
    async def main() -> None:
        recorder = Recorder()
        async with Listener(REPLICA, SECRET, CONFIG, recorder) as listener:
            stranger = await Stranger.to(await listener.start("127.0.0.1", 0))
            stranger.say(says)
            await stranger.hear_end()
            await until(lambda: listener.stats.unauthenticated == 0)
            assert listener.stats.refused_by_reason == {refusal: 1}
            assert (listener.refused, listener.stats.accepted) == (1, 0)
        assert recorder.connections == []
        assert recorder.ended == []

    run(new_loop, main())


def test_a_stranger_that_leaves_in_mid_frame_is_counted(new_loop: Loop) -> None:
    async def main() -> None:
        async with Listener(REPLICA, SECRET, CONFIG, Recorder()) as listener:
            stranger = await Stranger.to(await listener.start("127.0.0.1", 0))
            stranger.say(HELLO[:20])
            await stranger.leave()
            await until(lambda: listener.refused == 1)
            assert listener.stats.refused_by_reason == {Refusal.LEFT: 1}

    run(new_loop, main())


@pytest.mark.parametrize("says", [b"", HELLO[:7], HELLO])
def test_a_slow_handshake_is_ended_wherever_it_stands(new_loop: Loop, says: bytes) -> None:
    async def main() -> None:
        async with Listener(REPLICA, SECRET, config(handshake_timeout_s=0.05), Recorder()) as listener:
            stranger = await Stranger.to(await listener.start("127.0.0.1", 0))
            stranger.say(says)
            await stranger.hear_end()
            assert listener.stats.refused_by_reason == {Refusal.TIMEOUT: 1}
            assert listener.stats.unauthenticated == 0

    run(new_loop, main())


def test_a_handshake_byte_by_byte_is_a_handshake(new_loop: Loop) -> None:
    async def main() -> None:
        recorder = Recorder()
        async with Listener(REPLICA, SECRET, CONFIG, recorder) as listener:
            stranger = await Stranger.to(await listener.start("127.0.0.1", 0))
            handshake = ConnectorHandshake(CLIENT, SECRET)
            for byte in frame(handshake.start()):
                stranger.say(bytes([byte]))
                await asyncio.sleep(0)
            proof = handshake.receive(await stranger.hear_frame()).reply
            assert proof is not None
            # The first frame of the upper layer may come in one read with the proof.
            stranger.say(frame(proof) + frame(b"early"))
            assert handshake.receive(await stranger.hear_frame()).peer == REPLICA
            await until(lambda: recorder.payloads == [b"early"])
            assert recorder.connections[0].peer == CLIENT
            assert not recorder.connections[0].dialed
            await stranger.leave()

    run(new_loop, main())


def test_only_so_many_strangers_at_once(new_loop: Loop) -> None:
    async def main() -> None:
        async with Listener(REPLICA, SECRET, config(max_unauthenticated_connections=2), Recorder()) as listener:
            address = await listener.start("127.0.0.1", 0)
            patient = [await Stranger.to(address), await Stranger.to(address)]
            await until(lambda: listener.stats.unauthenticated == 2)
            one_more = await Stranger.to(address)
            assert await one_more.hear_end() == b""
            assert listener.stats.refused_by_reason == {Refusal.CROWDED: 1}
            for stranger in patient:
                await stranger.leave()
            await until(lambda: listener.stats.unauthenticated == 0)
            welcome_again = await Stranger.to(address)
            welcome_again.say(HELLO)
            assert await welcome_again.hear_frame()
            await welcome_again.leave()

    run(new_loop, main())


def test_proven_peers_do_not_count_as_strangers(new_loop: Loop) -> None:
    async def main() -> None:
        async with Pair(config(max_unauthenticated_connections=1)) as pair:
            assert pair.listener.stats.unauthenticated == 0
            assert (pair.listener.stats.accepted, pair.listener.stats.open) == (1, 1)
        assert pair.listener.stats.open == 0

    run(new_loop, main())


def test_refusals_are_logged_at_most_once_a_second_with_counts(
    new_loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with Listener(REPLICA, SECRET, CONFIG, Recorder()) as listener:
            address = await listener.start("127.0.0.1", 0)
            for number in range(20):
                stranger = await Stranger.to(address)
                stranger.say(b"\xff" * 4)
                await stranger.hear_end()
                await until(lambda number=number: listener.refused == number + 1)  # type: ignore[misc]

    run(new_loop, main())
    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert sum(int(line.split()[1]) for line in lines) == 20
    assert "1 x malformed; the latest from 127.0.0.1:" in lines[0]
    # One at once, one at the close, and one for each second in between: far fewer than the refusals.
    assert len(lines) < 20


def test_an_address_that_is_taken_is_a_configuration_error(new_loop: Loop) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            listener = Listener(REPLICA, SECRET, CONFIG, Recorder())
            with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}.*free port"):
                await listener.start("127.0.0.1", port)
            await listener.close()

    run(new_loop, main())


def test_a_port_out_of_range_is_a_configuration_error(new_loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(ConfigurationError, match="port 70000 is not between"):
            await Listener(REPLICA, SECRET, CONFIG, Recorder()).start("127.0.0.1", 70000)

    run(new_loop, main())


def test_a_listener_takes_the_port_that_is_asked_for_also_right_after_another(new_loop: Loop) -> None:
    async def main() -> None:
        async with Pair() as pair:
            address = pair.listener.address
        assert address is not None
        async with Listener(REPLICA, SECRET, CONFIG, Recorder()) as listener:
            assert await listener.start(*address) == address
            with pytest.raises(ConfigurationError, match="already bound"):
                await listener.start("127.0.0.1", 0)

    run(new_loop, main())


def test_out_of_file_descriptors_is_waited_out(
    new_loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accept, failures = socket.socket.accept, 0

    def failing_accept(listening: socket.socket) -> tuple[socket.socket, object]:
        nonlocal failures
        if failures < 2:
            failures += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(listening)

    monkeypatch.setattr(socket.socket, "accept", failing_accept)
    monkeypatch.setattr(listener_module, "_ACCEPT_PAUSE_S", 0.01)

    async def main() -> None:
        async with Pair() as pair:
            assert pair.listener.stats.accepted == 1

    run(new_loop, main())
    assert caplog.text.count("Too many open files; trying again") == 2


def test_close_closes_strangers_and_peers(new_loop: Loop) -> None:
    async def main() -> None:
        pair = Pair()
        async with pair:
            assert pair.listener.address is not None
            stranger = await Stranger.to(pair.listener.address)
            await until(lambda: pair.listener.stats.unauthenticated == 1)
            await pair.listener.close()
            await stranger.hear_end()
            assert [error for _, error in pair.server.ended] == [None]
            await until(lambda: len(pair.client.ended) == 1)

    run(new_loop, main())


@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_random_bytes_never_open_a_connection(parts: list[bytes]) -> None:
    async def main() -> None:
        recorder = Recorder()
        async with Listener(REPLICA, SECRET, CONFIG, recorder) as listener:
            stranger = await Stranger.to(await listener.start("127.0.0.1", 0))
            for part in parts:
                stranger.say(part)
                await asyncio.sleep(0)
            await stranger.leave()
            await until(lambda: listener.refused == 1)
        assert recorder.connections == []

    run(asyncio.new_event_loop, main())


def test_addresses_are_written_as_urls_write_them() -> None:
    assert str(Address("10.0.0.1", 6379)) == "10.0.0.1:6379"
    assert str(Address("::1", 6379)) == "[::1]:6379"
