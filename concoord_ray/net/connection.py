"""A connection whose peer has proved who it is: frames in, frames out.

Hot path: one ``data_received`` is one ``Handler.received`` with every payload that it completed, and whatever is sent
in one turn of the event loop is one ``transport.write``, unless it is large.

What is large leaves in pieces, as fast as the network takes them. Small frames that say that somebody lives are sent as
``urgent``, and overtake what waits here: else 50 MB on their way to a peer would look like the death of who sends them,
and whoever took its place would send them again.

Invariants: ``Handler.opened`` comes first, ``Handler.closed`` exactly once and last, ``Handler.received`` only in
between and never after ``close()``. Frames are delivered in the order in which they were sent, and without gaps, until
the connection ends; but urgent ones may overtake the others, and also one another. What was sent but not delivered by
then is lost, and the layers above send it again.

Bounds: a frame has ``max_frame_bytes``. While the peer does not keep up, frames wait here; above
``max_send_buffer_bytes``, the transport's own buffer included, the peer is too slow to be of use and the connection
is cut.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from concoord_ray.config import Config
from concoord_ray.errors import ConcoordError, FrameTooLarge, ProtocolViolation
from concoord_ray.net.frame import HEADER_BYTES, FrameParser, cut, pack_length
from concoord_ray.net.identity import Identity
from concoord_ray.net.sockets import close_within
from concoord_ray.net.turn import turn_of

logger = logging.getLogger(__name__)

#: What leaves in one write while more waits: large enough to cost little, small enough to be passed by soon.
_PIECE_BYTES = 128 << 10


class SlowPeer(ConcoordError):
    """The peer did not read for so long that the send buffer ran over; the connection was cut. Redialing is safe."""


class Handler(Protocol):
    """What the layer above does with connections. Called on the event loop; must not block."""

    def opened(self, connection: Connection) -> None:
        """Both sides have proved who they are; ``connection.peer`` is known."""

    def received(self, connection: Connection, payloads: list[bytes]) -> None:
        """Every frame that one read completed, in order."""

    def closed(self, connection: Connection, error: Exception | None) -> None:
        """The connection is gone. ``error`` is None if one of the two sides closed it in peace."""


class Mark(NamedTuple):
    """A place in what a connection sends."""

    connection: Connection
    position: int

    @property
    def has_passed(self) -> bool:
        """Whether everything before it has left this process for certain, or never will."""
        return not self.connection.is_open or self.connection.left_bytes >= self.position


class Connection(asyncio.Protocol):
    """Made by listeners and dialers when the handshake is through; used by handlers."""

    __slots__ = (
        "_close_timer", "_closing", "_config", "_error", "_feed", "_gone", "_handler", "_loop",
        "_max_frame_bytes", "_outgoing", "_queue_limit_bytes", "_queued_bytes", "_reading_paused", "_received",
        "_room_wanted", "_transport", "_turn", "_urgent", "_urgent_bytes", "_waiting", "_writing_paused",
        "_written_bytes", "dialed", "dropped", "peer",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        peer: Identity,
        dialed: bool,
        config: Config,
        handler: Handler,
        gone: Callable[[Connection], None],
    ) -> None:
        self.peer = peer
        self.dialed = dialed
        #: Frames not sent because the connection was closing or the peer too slow.
        self.dropped = 0
        self._transport = transport
        self._config = config
        self._handler = handler
        self._gone = gone
        self._received = handler.received
        self._loop = asyncio.get_running_loop()
        self._feed = FrameParser(config.max_frame_bytes).feed
        self._max_frame_bytes = config.max_frame_bytes
        # Lengths and payloads, or pieces of them, in turn; those that go before them; and how many bytes all are.
        self._outgoing: deque[bytes | memoryview] = deque()
        self._urgent: list[bytes] = []
        self._queued_bytes = 0
        self._urgent_bytes = 0
        # Without those that went before others: they would make marks pass too early.
        self._written_bytes = 0
        self._queue_limit_bytes = config.max_send_buffer_bytes
        self._turn = turn_of(self._loop)
        self._waiting = False  # for the turn's flush
        self._writing_paused = False
        self._reading_paused = False
        self._closing = False
        self._error: Exception | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._room_wanted: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Connection {'to' if self.dialed else 'from'} {self.peer}{' closing' if self._closing else ''}>"

    @property
    def is_open(self) -> bool:
        """Whether ``send`` would take a frame."""
        return not self._closing

    def descriptor(self) -> int:
        """The file descriptor of its socket, -1 once it is closed."""
        sock = self._transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    @property
    def send_buffer_bytes(self) -> int:
        """What was sent but has not reached the kernel yet."""
        return self._queued_bytes + self._transport.get_write_buffer_size()

    @property
    def left_bytes(self) -> int:
        """How much of what was sent, without what overtook it, has reached the kernel for certain."""
        return self._written_bytes - self._transport.get_write_buffer_size()

    def mark(self) -> Mark:
        """The end of what was sent until now."""
        return Mark(self, self._written_bytes + self._queued_bytes - self._urgent_bytes)

    @property
    def has_room(self) -> bool:
        """Whether no more than ``send_window_bytes`` wait: who can wait with what it sends does so otherwise."""
        waiting = self._queued_bytes
        if self._writing_paused:
            waiting += self._transport.get_write_buffer_size()
        return waiting <= self._config.send_window_bytes

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call this once, in a later turn of the loop, when what waits has left. Replaces what was asked before."""
        self._room_wanted = callback

    def begin(self, data: bytes) -> None:
        """Tell the handler, then take ``data``, which came in one read with the end of the handshake."""
        try:
            self._handler.opened(self)
        except Exception as error:
            self._handler_failed("opened", error)
        if data:
            self.data_received(data)

    def send(self, payload: bytes, *, urgent: bool = False) -> bool:
        """Queue one frame; it leaves when the running handler returns, or at the end of the loop's turn.

        An ``urgent`` one goes before all that waits, if that is more than a piece; also before an earlier urgent one
        that has its place among the others, since less waited then. Returns False, and drops the frame, if the
        connection is closing or its send buffer is full (which closes it). True is no promise of delivery. Raises
        FrameTooLarge, with nothing sent, if ``payload`` is above the limit.
        """
        length = len(payload)
        if not 0 < length <= self._max_frame_bytes:
            raise self._unsendable(length)
        if self._closing:
            self.dropped += 1
            return False
        if self._queued_bytes > self._queue_limit_bytes:
            self._overflow()
            return False
        if length > _PIECE_BYTES:
            self._outgoing.extend(cut(payload, _PIECE_BYTES))
            self._queued_bytes += (length - 1) // _PIECE_BYTES * HEADER_BYTES
        elif urgent and self._queued_bytes > _PIECE_BYTES:
            self._urgent += (pack_length(length), payload)
            self._urgent_bytes += length + HEADER_BYTES
        else:
            self._outgoing += (pack_length(length), payload)
        self._queued_bytes += length + HEADER_BYTES
        if not self._waiting:
            self._waiting = True
            turn = self._turn
            turn.waiting.append(self)
            if not turn.armed:
                turn.arm(self._loop)
        return True

    def flush(self) -> None:
        """Write what is queued, now. Never needed; called after the last send of a step it saves a turn of the loop."""
        self._waiting = False
        self._write()
        self._tell_room()

    def pause_reading(self) -> None:
        """Let the peer's frames wait in the network. What one read already brought is still delivered."""
        if not self._reading_paused and not self._closing:
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take frames again."""
        if self._reading_paused and not self._closing:
            self._reading_paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        """Send what is queued, then close; ``Handler.closed`` follows. Nothing is received any more."""
        if self._closing:
            return
        while self._queued_bytes:
            self._writing_paused = False  # The transport takes it all the same.
            self._write()
        self._closing = True
        self._close_timer = close_within(self._transport, self._config.close_timeout_s)

    # Called by the transport.

    def data_received(self, data: bytes) -> None:
        """One read."""
        if self._closing:
            return
        try:
            payloads = self._feed(data)
        except ProtocolViolation as error:
            logger.warning("%r: %s", self, error)
            self._cut(error)
            return
        if not payloads:
            return
        turn = self._turn
        was_armed, turn.armed = turn.armed, True
        try:
            self._received(self, payloads)
        except Exception as error:
            self._handler_failed("received", error)
        finally:
            turn.armed = was_armed
        if turn.waiting:
            turn.flush()

    def pause_writing(self) -> None:
        """The transport's buffer is full: hold further frames here."""
        self._writing_paused = True
        self._queue_limit_bytes = self._config.max_send_buffer_bytes - self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """The peer caught up."""
        self._writing_paused = False
        self._queue_limit_bytes = self._config.max_send_buffer_bytes
        self._write()
        self._tell_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever caused it."""
        self._closing = True
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._transport.abort()  # asyncio of Python 3.10 takes a TLS transport that the peer closed for open until told
        self._drop_queue()
        try:
            self._handler.closed(self, self._error or exc)
        except Exception:
            logger.exception("%r: the handler failed in closed()", self)
        self._gone(self)

    # Inside.

    def _write(self) -> None:
        """Write what is queued, as far as the transport takes it."""
        # Not transport.writelines: where it would save the copy, in asyncio of 3.12, it ignores the high-water mark
        # (CVE-2024-12254), on which our bound rests.
        while self._queued_bytes and not self._writing_paused:
            if self._urgent or self._queued_bytes > _PIECE_BYTES:
                data = self._take_piece()
                self._queued_bytes -= len(data)
            else:
                data = b"".join(self._outgoing)
                self._outgoing.clear()
                self._queued_bytes = 0
            self._written_bytes += len(data)
            self._transport.write(data)

    def _take_piece(self) -> bytes:
        """What is urgent, and about a piece of the rest."""
        parts: list[bytes | memoryview] = [*self._urgent]
        self._urgent.clear()
        self._written_bytes -= self._urgent_bytes
        self._urgent_bytes = 0
        size = 0
        while self._outgoing and size < _PIECE_BYTES:
            parts += (self._outgoing.popleft(), self._outgoing.popleft())
            size += len(parts[-1])
        return b"".join(parts)

    def _tell_room(self) -> None:
        wanted = self._room_wanted
        if wanted is not None and not self._writing_paused:
            self._room_wanted = None
            self._loop.call_soon(wanted)

    def _unsendable(self, length: int) -> Exception:
        if length == 0:
            return ValueError("an empty payload is not a frame: send at least one byte.")
        return FrameTooLarge(
            f"a message of {length} bytes to {self.peer} is above max_frame_bytes={self._max_frame_bytes}; nothing was "
            "sent. Pass less data in one call, or start the ensemble with a larger max_frame_bytes."
        )

    def _overflow(self) -> None:
        self.dropped += 1
        error = SlowPeer(
            f"{self.peer} reads too slowly: {self.send_buffer_bytes} bytes wait, max_send_buffer_bytes is "
            f"{self._config.max_send_buffer_bytes}. The connection was cut; redialing is safe."
        )
        logger.warning("%r: %s", self, error)
        self._cut(error)

    def _handler_failed(self, where: str, error: Exception) -> None:
        logger.error("%r: the handler failed in %s(); closing", self, where, exc_info=error)
        self._cut(error)

    def _cut(self, error: Exception) -> None:
        """Close at once, without sending what is queued."""
        if self._error is None:
            self._error = error
        self._closing = True
        self._drop_queue()
        self._transport.abort()

    def _drop_queue(self) -> None:
        self._outgoing.clear()
        self._urgent.clear()
        self._queued_bytes = self._urgent_bytes = 0
