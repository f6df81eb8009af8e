"""Accepts connections, and lets through those that prove that they know the ensemble's secret.

Bounds: at most ``max_unauthenticated_connections`` strangers are in their handshake at once, counted from the accept on
(TLS included), each for at most ``handshake_timeout_s``; one more is closed at once. Refusals are logged at most once a
second, with counts, so that a stranger cannot fill the disk.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter

import msgspec

from concoord_ray.config import Config
from concoord_ray.errors import ConcoordError, ConfigurationError
from concoord_ray.net.connection import Connection, Handler
from concoord_ray.net.greeting import Greeting, Outcome
from concoord_ray.net.handshake import Handshake, ListenerHandshake, Refusal, checked_secret
from concoord_ray.net.identity import Address, Identity, checked_port

logger = logging.getLogger(__name__)

_BACKLOG = 1024
_LOG_INTERVAL_S = 1.0
#: Pause after a failed accept: out of file descriptors, most often.
_ACCEPT_PAUSE_S = 0.5


class TLSFailed(ConcoordError):
    """A stranger did not get through the TLS handshake."""


class ListenerStats(msgspec.Struct, frozen=True):
    """Counts since the start, and what is there now."""

    accepted: int  # handshakes that succeeded
    refused: int  # that did not
    refused_by_reason: dict[Refusal, int]
    open: int  # connections now
    unauthenticated: int  # handshakes under way now


class Listener:
    """One listening socket. ``async with`` closes it; ``start`` opens it."""

    def __init__(
        self,
        identity: Identity,
        secret: bytes,
        config: Config,
        handler: Handler,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """``tls`` is the server context of ``net.tls.from_environment()``."""
        self.address: Address | None = None
        self._identity = identity
        self._secret = checked_secret(secret)
        self._config = config
        self._handler = handler
        self._tls = tls
        self._socket: socket.socket | None = None
        self._pause: asyncio.TimerHandle | None = None  # of accepting
        self._strangers: set[Greeting] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._accepted = 0
        self._refused: Counter[Refusal] = Counter()
        self._log = _RefusalLog()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def refused(self) -> int:
        """How many connections did not get through."""
        return sum(self._refused.values())

    @property
    def stats(self) -> ListenerStats:
        """The counters, now."""
        return ListenerStats(
            accepted=self._accepted,
            refused=self.refused,
            refused_by_reason=dict(self._refused),
            open=len(self._connections),
            unauthenticated=len(self._strangers),
        )

    async def __aenter__(self) -> Listener:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self, host: str, port: int) -> Address:
        """Listen on ``host`` and ``port`` (0: any free one); gives the address with the port that it became.

        Raises ConfigurationError if the address is not ours or is taken.
        """
        if self._socket is not None:
            raise ConfigurationError(f"this listener is already bound to {self.address}.")
        try:
            self._socket = await _bind(host, checked_port(port))
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"cannot listen on {Address(host, port)}: {error}. Use an address of this node and a free port "
                "(0 takes any)."
            ) from error
        self.address = Address(*self._socket.getsockname()[:2])
        self._open(self._socket)
        logger.info("%s listens on %s", self._identity, self.address)
        return self.address

    async def close(self) -> None:
        """Stop accepting and close every connection, within ``close_timeout_s``. Safe to call again."""
        if self._pause is not None:
            self._pause.cancel()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        for greeting in list(self._strangers):
            greeting.abandon(Refusal.LEFT, ConcoordError("the listener closed."))
        for task in self._connecting:
            task.cancel()
        for connection in list(self._connections):
            connection.close()
        if self._connecting:  # Their sockets are closed in the turns after the cancel.
            await asyncio.wait(self._connecting, timeout=self._config.close_timeout_s)
        # Connections cut themselves after close_timeout_s; the second one is for the loop to say so.
        try:
            await asyncio.wait_for(self._idle.wait(), 2 * self._config.close_timeout_s)
        except asyncio.TimeoutError:
            logger.warning("%d connections of %s did not close in time", len(self._connections), self._identity)
        self._log.flush()

    def _open(self, listening: socket.socket) -> None:
        # A callback rather than a task in loop.sock_accept: cancelled at the wrong moment, that loses a socket.
        asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        """Take every connection that waits."""
        for _ in range(_BACKLOG):
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                logger.warning("%s cannot accept on %s: %s; trying again", self._identity, self.address, error)
                loop = asyncio.get_running_loop()
                loop.remove_reader(listening)
                self._pause = loop.call_later(_ACCEPT_PAUSE_S, self._open, listening)
                return
            if len(self._strangers) >= self._config.max_unauthenticated_connections:
                accepted.close()
                self._count(Refusal.CROWDED, None, ConcoordError("too many handshakes under way."))
            else:
                self._greet(accepted)

    def _greet(self, accepted: socket.socket) -> None:
        stranger = _name(accepted)

        def settled(outcome: Outcome) -> None:
            self._strangers.remove(greeting)
            if outcome.connection is not None:
                self._accepted += 1
                self._connections.add(outcome.connection)
            else:
                self._count(outcome.refusal or Refusal.LEFT, stranger, outcome.error)
            self._note_idle()

        greeting = Greeting(self._handshake, self._config, self._handler, settled, self._gone)
        self._strangers.add(greeting)
        self._idle.clear()
        task = asyncio.get_running_loop().create_task(self._connect(accepted, greeting))
        self._connecting.add(task)

        def done(_: object) -> None:
            self._connecting.discard(task)
            if task.cancelled():  # perhaps before it ran at all
                accepted.close()

        task.add_done_callback(done)

    async def _connect(self, accepted: socket.socket, greeting: Greeting) -> None:
        """Put a transport, with TLS if asked for, on an accepted socket."""
        loop = asyncio.get_running_loop()
        timeout_s = self._config.handshake_timeout_s if self._tls is not None else None
        try:
            accepted.setblocking(False)
            await loop.connect_accepted_socket(
                lambda: greeting, accepted, ssl=self._tls, ssl_handshake_timeout=timeout_s
            )
        except OSError as error:  # ssl.SSLError is one, as are timeouts and resets
            accepted.close()
            greeting.abandon(Refusal.TLS, TLSFailed(f"TLS: {error}"))

    def _handshake(self, binding: bytes) -> Handshake:
        return ListenerHandshake(self._identity, self._secret, binding)

    def _gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._note_idle()

    def _note_idle(self) -> None:
        if not self._connections and not self._strangers:
            self._idle.set()

    def _count(self, reason: Refusal, stranger: Address | None, error: Exception | None) -> None:
        self._refused[reason] += 1
        self._log.note(reason, stranger, error)


class _RefusalLog:
    """Logs the first refusal at once, those of the second after it in one line."""

    def __init__(self) -> None:
        self._pending: Counter[Refusal] = Counter()
        self._latest: tuple[Address | None, Exception | None] = (None, None)
        self._timer: asyncio.TimerHandle | None = None

    def note(self, reason: Refusal, stranger: Address | None, error: Exception | None) -> None:
        """One more."""
        self._pending[reason] += 1
        self._latest = (stranger, error)
        if self._timer is None:
            self._log()

    def flush(self) -> None:
        """Log what is pending, for the last time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending:
            self._write()

    def _log(self) -> None:
        self._timer = None
        if self._pending:
            self._write()
            self._timer = asyncio.get_running_loop().call_later(_LOG_INTERVAL_S, self._log)

    def _write(self) -> None:
        counts = ", ".join(f"{count} x {reason}" for reason, count in self._pending.items())
        logger.warning("refused %s; the latest from %s: %s", counts, *self._latest)
        self._pending.clear()


async def _bind(host: str, port: int) -> socket.socket:
    """One listening socket: the first address that ``host`` stands for, so that port 0 means one port."""
    infos = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, address = infos[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _name(accepted: socket.socket) -> Address | None:
    try:
        return Address(*accepted.getpeername()[:2])
    except OSError:  # it has left already
        return None
