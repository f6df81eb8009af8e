"""Coalescing, bounds, back-pressure and the order of a handler's calls, over a transport that only records."""

from __future__ import annotations

import pytest

from concoord_ray.errors import FrameTooLarge, ProtocolViolation
from concoord_ray.net.connection import Connection, SlowPeer
from concoord_ray.net.frame import frame
from tests.net.ends import Bench, Loop, Recorder, config, run, turn, until


def test_what_is_sent_in_one_turn_is_one_write(new_loop: Loop) -> None:
    async def main() -> None:
        bench = Bench(Recorder())
        for number in range(100):
            assert bench.connection.send(b"%d" % number)
        assert bench.transport.writes == []
        await turn()
        assert bench.transport.writes == [b"".join(frame(b"%d" % number) for number in range(100))]
        bench.connection.send(b"next")
        await turn()
        assert bench.transport.writes[1:] == [frame(b"next")]

    run(new_loop, main())


def test_answers_to_one_read_are_one_write_when_the_handler_returns(new_loop: Loop) -> None:
    async def main() -> None:
        recorder = Recorder(echo=True)
        bench = Bench(recorder)
        bench.connection.data_received(frame(b"one") + frame(b"two"))
        assert recorder.reads == [[b"one", b"two"]]
        assert bench.transport.writes == [frame(b"one") + frame(b"two")]
        await turn()
        assert len(bench.transport.writes) == 1

    run(new_loop, main())


def test_what_a_handler_sends_elsewhere_leaves_with_its_answers(new_loop: Loop) -> None:
    async def main() -> None:
        elsewhere = Bench(Recorder())

        class Forwarder(Recorder):
            def received(self, connection: Connection, payloads: list[bytes]) -> None:
                for payload in payloads:
                    elsewhere.connection.send(payload)

        Bench(Forwarder()).connection.data_received(frame(b"one") + frame(b"two"))
        assert elsewhere.transport.writes == [frame(b"one") + frame(b"two")]

    run(new_loop, main())


def test_sends_before_a_read_leave_with_it_and_later_ones_at_the_end_of_the_turn(new_loop: Loop) -> None:
    async def main() -> None:
        bench = Bench(Recorder(echo=True))
        bench.connection.send(b"before")
        bench.connection.data_received(frame(b"read"))
        bench.connection.send(b"after")
        assert bench.transport.writes == [frame(b"before") + frame(b"read")]
        await turn()
        assert bench.transport.writes[1:] == [frame(b"after")]

    run(new_loop, main())


def test_flush_writes_at_once(new_loop: Loop) -> None:
    async def main() -> None:
        bench = Bench(Recorder())
        bench.connection.send(b"now")
        bench.connection.flush()
        assert bench.transport.writes == [frame(b"now")]
        await turn()
        assert len(bench.transport.writes) == 1

    run(new_loop, main())


def test_a_frame_above_the_limit_is_refused_to_its_sender_and_the_connection_goes_on(new_loop: Loop) -> None:
    async def main() -> None:
        bench = Bench(Recorder(), config(max_frame_bytes=10))
        with pytest.raises(FrameTooLarge, match=r"11 bytes.*max_frame_bytes=10; nothing was sent"):
            bench.connection.send(b"x" * 11)
        with pytest.raises(ValueError, match="empty payload"):
            bench.connection.send(b"")
        assert bench.connection.send(b"x" * 10)
        await turn()
        assert bench.transport.writes == [frame(b"x" * 10)]

    run(new_loop, main())


def test_while_the_peer_does_not_keep_up_frames_wait_here(new_loop: Loop) -> None:
    async def main() -> None:
        bench = Bench(Recorder())
        bench.connection.pause_writing()
        bench.connection.send(b"one")
        await turn()
        bench.connection.send(b"two")
        await turn()
        assert bench.transport.writes == []
        assert bench.connection.send_buffer_bytes == len(frame(b"one") + frame(b"two"))
        bench.connection.resume_writing()
        assert bench.transport.writes == [frame(b"one") + frame(b"two")]

    run(new_loop, main())


def test_who_can_wait_is_told_when_there_is_room(new_loop: Loop) -> None:
    async def main() -> None:
        bench = Bench(Recorder(), config(send_window_bytes=20))
        told: list[str] = []
        bench.connection.pause_writing()
        bench.connection.send(b"x" * 10)
        room = [bench.connection.has_room]
        bench.connection.send(b"x" * 10)
        room.append(bench.connection.has_room)
        bench.connection.when_room(lambda: told.append("replaced"))
        bench.connection.when_room(lambda: told.append("now"))
        await turn()
        assert told == []
        bench.connection.resume_writing()
        assert told == []  # Not in the middle of the transport's own work.
        await turn()
        assert told == ["now"]
        assert [*room, bench.connection.has_room] == [True, False, True]
        bench.connection.resume_writing()
        await turn()
        assert told == ["now"]

    run(new_loop, main())


def test_what_one_turn_sends_leaves_room_when_it_is_written(new_loop: Loop) -> None:
    async def main() -> None:
        bench = Bench(Recorder(), config(send_window_bytes=20))
        told: list[bool] = []
        bench.connection.send(b"x" * 30)
        assert not bench.connection.has_room
        bench.connection.when_room(lambda: told.append(bench.connection.has_room))
        await turn()
        await turn()
        assert told == [True]

    run(new_loop, main())


@pytest.mark.parametrize("transport_bytes", [0, 60])
def test_a_peer_that_is_too_slow_is_cut(new_loop: Loop, transport_bytes: int) -> None:
    async def main() -> None:
        recorder = Recorder()
        bench = Bench(recorder, config(max_send_buffer_bytes=100))
        bench.transport.buffered_bytes = transport_bytes
        bench.connection.pause_writing()
        sent = 0
        while bench.connection.send(b"x" * 16):
            sent += 1
            await turn()
        assert sent == (100 - transport_bytes) // 20 + 1
        assert bench.transport.calls == ["abort"]
        assert bench.connection.dropped == 1
        assert not bench.connection.send(b"more")
        assert bench.connection.dropped == 2
        bench.connection.connection_lost(None)
        ((_, error),) = recorder.ended
        assert isinstance(error, SlowPeer)
        assert "reads too slowly" in str(error)
        assert bench.transport.writes == []

    run(new_loop, main())


def test_reading_pauses_and_resumes_once(new_loop: Loop) -> None:
    async def main() -> None:
        bench = Bench(Recorder())
        bench.connection.resume_reading()
        bench.connection.pause_reading()
        bench.connection.pause_reading()
        bench.connection.resume_reading()
        bench.connection.resume_reading()
        assert bench.transport.calls == ["pause_reading", "resume_reading"]
        bench.connection.close()
        bench.connection.pause_reading()
        assert bench.transport.calls[2:] == ["close"]

    run(new_loop, main())


def test_close_sends_what_is_queued_then_takes_nothing_more(new_loop: Loop) -> None:
    async def main() -> None:
        recorder = Recorder(echo=True)
        bench = Bench(recorder)
        bench.connection.send(b"last")
        bench.connection.close()
        bench.connection.close()
        assert bench.transport.writes == [frame(b"last")]
        assert bench.transport.calls == ["close"]
        assert not bench.connection.is_open
        assert not bench.connection.send(b"too late")
        bench.connection.data_received(frame(b"too late"))
        assert recorder.reads == []
        bench.connection.connection_lost(None)
        assert recorder.ended == [(bench.connection, None)]
        assert bench.gone == [bench.connection]

    run(new_loop, main())


def test_a_close_that_can_not_send_its_last_bytes_is_cut(new_loop: Loop) -> None:
    async def main() -> None:
        bench = Bench(Recorder(), config(close_timeout_s=0.01))
        bench.connection.close()
        await until(lambda: "abort" in bench.transport.calls)
        assert bench.transport.calls == ["close", "abort"]

    run(new_loop, main())


def test_garbage_after_the_handshake_cuts_the_connection(new_loop: Loop) -> None:
    async def main() -> None:
        recorder = Recorder()
        bench = Bench(recorder)
        bench.connection.data_received(b"\xff" * 8)
        assert bench.transport.calls == ["abort"]
        bench.connection.data_received(frame(b"ignored"))
        bench.connection.connection_lost(None)
        assert recorder.reads == []
        assert isinstance(recorder.ended[0][1], ProtocolViolation)

    run(new_loop, main())


class Faulty(Recorder):
    """A handler that fails in one of its methods."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where

    def opened(self, connection: Connection) -> None:
        super().opened(connection)
        self._fail("opened")

    def received(self, connection: Connection, payloads: list[bytes]) -> None:
        super().received(connection, payloads)
        self._fail("received")

    def closed(self, connection: Connection, error: Exception | None) -> None:
        super().closed(connection, error)
        self._fail("closed")

    def _fail(self, where: str) -> None:
        if where == self._where:
            raise LookupError(where)


@pytest.mark.parametrize("where", ["opened", "received", "closed"])
def test_a_handler_that_fails_is_logged_and_closed_exactly_once(
    new_loop: Loop, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        handler = Faulty(where)
        bench = Bench(handler)
        bench.connection.data_received(frame(b"payload"))
        bench.connection.connection_lost(None)
        assert len(handler.ended) == 1
        assert bench.gone == [bench.connection]
        assert isinstance(handler.ended[0][1], type(None) if where == "closed" else LookupError)

    run(new_loop, main())
    assert f"the handler failed in {where}()" in caplog.text


def test_after_a_failed_handler_other_connections_of_the_loop_still_write(new_loop: Loop) -> None:
    async def main() -> None:
        Bench(Faulty("received")).connection.data_received(frame(b"payload"))
        other = Bench(Recorder())
        other.connection.send(b"fine")
        await turn()
        assert other.transport.writes == [frame(b"fine")]

    run(new_loop, main())
