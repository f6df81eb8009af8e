"""A connection before it is one: a transport during its handshake.

A ``Greeting`` is the transport's protocol until both sides have proved themselves; then it makes a ``Connection``,
hands the transport over to it and is done. So a ``Connection`` always has a proven peer, and its hot path knows
nothing of handshakes.

Bounds: the handshake ends within ``handshake_timeout_s`` of the greeting's creation, and no frame above
``max_handshake_frame_bytes`` is buffered for a stranger.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import NamedTuple, cast

from concoord_ray.config import Config
from concoord_ray.errors import ConcoordError, ConfigurationError
from concoord_ray.net.connection import Connection, Handler
from concoord_ray.net.frame import HEADER_BYTES, bad_length, frame
from concoord_ray.net.handshake import Handshake, Refusal
from concoord_ray.net.sockets import close_within, tune
from concoord_ray.net.tls import channel_binding


class HandshakeFailed(ConcoordError):
    """The peer went away, or fell silent, before the handshake was through. Dialing again is safe."""


class Outcome(NamedTuple):
    """How a greeting ended: with a connection, or with an error and its kind."""

    connection: Connection | None
    error: Exception | None = None
    refusal: Refusal | None = None


class Greeting(asyncio.Protocol):
    """Runs one handshake over one transport. ``settled`` is called exactly once, before ``Handler.opened``."""

    def __init__(
        self,
        make_handshake: Callable[[bytes], Handshake],
        config: Config,
        handler: Handler,
        settled: Callable[[Outcome], None],
        gone: Callable[[Connection], None],
    ) -> None:
        """``make_handshake`` gets the channel binding; ``gone`` is told when the connection made here has ended."""
        self._make_handshake = make_handshake
        self._config = config
        self._handler = handler
        self._settled = settled
        self._gone = gone
        self._over = False
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        # From here, not from connection_made: with TLS, that comes only after the stranger's first round trips.
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(config.handshake_timeout_s, self._expire)

    def abandon(self, refusal: Refusal, error: Exception) -> None:
        """Give up on the peer, if it is not settled yet."""
        if not self._over:
            self._fail(refusal, error)

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP, and TLS if there is any, are up."""
        self._transport = cast(asyncio.Transport, transport)
        if self._over:
            self._transport.abort()
            return
        tune(transport, self._config)
        self._handshake = self._make_handshake(channel_binding(transport))
        first = self._handshake.start()
        if first is not None:
            self._transport.write(frame(first))

    def data_received(self, data: bytes) -> None:
        """One read of the handshake, perhaps with the first frames after it."""
        data = self._buffer + data
        while len(data) >= HEADER_BYTES and not self._over:
            length = int.from_bytes(data[:HEADER_BYTES], "big")
            if not 0 < length <= self._config.max_handshake_frame_bytes:
                self._fail(Refusal.MALFORMED, bad_length(length, self._config.max_handshake_frame_bytes))
                return
            stop = HEADER_BYTES + length
            if len(data) < stop:
                break
            payload, data = data[HEADER_BYTES:stop], data[stop:]
            self._step(payload, data)
        self._buffer = data

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer left, or we closed."""
        if self._transport is not None:
            self._transport.abort()  # as in Connection.connection_lost
        if self._over:
            return
        if isinstance(exc, ssl.SSLError):
            hint = "use certificates of one CA, valid today, in every process."
            self._fail(Refusal.TLS, ConfigurationError(f"TLS failed: {exc}; {hint}"))
        else:
            reason = f" ({exc})" if exc else ""
            self._fail(Refusal.LEFT, HandshakeFailed(f"the peer closed during the handshake{reason}."))

    # Inside.

    def _step(self, payload: bytes, rest: bytes) -> None:
        assert self._transport is not None  # it brought the payload
        step = self._handshake.receive(payload)
        if step.reply is not None:
            self._transport.write(frame(step.reply))
        if step.error is not None:
            self._fail(step.refusal or Refusal.MALFORMED, step.error, told=step.reply is not None)
        elif step.peer is not None:
            self._end()
            connection = Connection(
                self._transport, step.peer, self._handshake.dialed, self._config, self._handler, self._gone
            )
            self._transport.set_protocol(connection)
            self._settled(Outcome(connection))
            connection.begin(rest)

    def _expire(self) -> None:
        timeout_s = self._config.handshake_timeout_s
        self._fail(Refusal.TIMEOUT, HandshakeFailed(f"the handshake was not through within {timeout_s} s."))

    def _fail(self, refusal: Refusal, error: Exception, *, told: bool = False) -> None:
        """Settle without a connection. ``told``: a last word to the peer is under way, so close gently."""
        self._end()
        if self._transport is not None:
            if told:
                close_within(self._transport, self._config.close_timeout_s)
            else:
                self._transport.abort()
        self._settled(Outcome(None, error, refusal))

    def _end(self) -> None:
        self._over = True
        self._timer.cancel()
