"""Large frames leave in pieces, and what is urgent overtakes them."""

from __future__ import annotations

from typing import Any

from concoord_ray.net.connection import Connection
from concoord_ray.net.frame import FrameParser, frame
from tests.net.ends import Bench, FakeTransport, Loop, Pair, Recorder, run, turn, until

LARGE = bytes(range(256)) * 4096


class Thin(FakeTransport):
    """Takes one write at a time."""

    connection: Connection

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        super().write(data)
        self.buffered_bytes = len(data)
        self.connection.pause_writing()

    def take(self) -> None:
        """What was written is gone."""
        self.buffered_bytes = 0
        self.connection.resume_writing()


def over_thin_transport() -> tuple[Connection, Thin]:
    transport = Thin()
    transport.connection = Bench(Recorder(), transport=transport).connection
    return transport.connection, transport


def test_what_is_large_leaves_in_pieces_and_what_is_urgent_overtakes_it(new_loop: Loop) -> None:
    async def main() -> None:
        connection, transport = over_thin_transport()
        connection.send(LARGE)
        connection.send(b"in its turn")
        await turn()
        assert len(transport.writes) == 1
        assert len(transport.writes[0]) < len(LARGE) / 4
        connection.send(b"urgent", urgent=True)
        connection.send(b"urgent too", urgent=True)
        await turn()
        for _ in range(20):
            transport.take()
        parser = FrameParser(1 << 20)
        arrived = [parser.feed(data) for data in transport.writes]
        assert arrived[1] == [b"urgent", b"urgent too"]
        assert [payload for read in arrived[2:] for payload in read] == [LARGE, b"in its turn"]
        assert connection.send_buffer_bytes == 0

    run(new_loop, main())


def test_what_is_urgent_keeps_its_turn_where_little_waits(new_loop: Loop) -> None:
    async def main() -> None:
        bench = Bench(Recorder())
        bench.connection.send(b"first")
        bench.connection.send(b"urgent", urgent=True)
        await turn()
        assert bench.transport.writes == [frame(b"first") + frame(b"urgent")]

    run(new_loop, main())


def test_a_mark_is_passed_when_everything_before_it_has_left(new_loop: Loop) -> None:
    async def main() -> None:
        connection, transport = over_thin_transport()
        passed = [connection.mark().has_passed]
        connection.send(LARGE)
        mark = connection.mark()
        connection.send(LARGE)
        passed.append(mark.has_passed)
        await turn()
        writes = 0
        while not mark.has_passed:
            transport.take()
            writes += 1
        passed.append(connection.mark().has_passed)
        assert passed == [True, False, False]
        assert len(LARGE) <= sum(map(len, transport.writes[:writes])) < len(LARGE) * 5 / 4
        last = connection.mark()
        connection.connection_lost(None)
        assert last.has_passed  # It never will.

    run(new_loop, main())


def test_what_overtakes_a_mark_does_not_make_it_pass(new_loop: Loop) -> None:
    async def main() -> None:
        connection, transport = over_thin_transport()
        connection.send(LARGE)
        await turn()
        connection.send(b"u" * 1000, urgent=True)
        mark = connection.mark()
        parser, arrived = FrameParser(1 << 20), list[bytes]()
        for _ in range(20):
            assert mark.has_passed is (LARGE in arrived)
            if connection._outgoing:
                for _ in range(200):
                    connection.send(b"u" * 1000, urgent=True)
            arrived += parser.feed(transport.writes.pop(0)) if transport.writes else []
            transport.take()
        assert LARGE in arrived

    run(new_loop, main())


def test_close_sends_all_pieces(new_loop: Loop) -> None:
    async def main() -> None:
        connection, transport = over_thin_transport()
        connection.send(LARGE)
        await turn()
        connection.send(b"urgent", urgent=True)
        connection.close()
        assert sorted(FrameParser(1 << 20).feed(b"".join(transport.writes))) == sorted([LARGE, b"urgent"])
        assert transport.calls == ["close"]

    run(new_loop, main())


def test_large_frames_and_urgent_ones_arrive_over_a_real_connection(new_loop: Loop) -> None:
    async def main() -> None:
        async with Pair() as pair:
            sender = pair.client.connections[0]
            for number in range(20):
                sender.send(LARGE + b"%d" % number)
                sender.send(b"urgent %d" % number, urgent=True)
                sender.send(b"small %d" % number)
            await until(lambda: len(pair.server.payloads) == 60)
            arrived = pair.server.payloads
            assert [each for each in arrived if len(each) > 100] == [LARGE + b"%d" % n for n in range(20)]
            for kind in (b"urgent", b"small"):
                assert [each for each in arrived if each.startswith(kind)] == [kind + b" %d" % n for n in range(20)]
            assert arrived.index(b"urgent 19") < arrived.index(LARGE + b"19")

    run(new_loop, main())
