"""Keeps one connection to one target alive.

``dial`` starts, ``retarget`` follows a target that moved, ``close`` ends it. In between a lost connection is dialed
again with exponential backoff. The layers above see every connection through their ``Handler`` and ask the directory
(or whoever knows) where to go when ``mismatch`` or ``failed`` is called; dialing is only persistence, never
discovery.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable

from concoord_ray.config import Config
from concoord_ray.errors import ConfigurationError, Unauthorized
from concoord_ray.net.backoff import Backoff
from concoord_ray.net.connection import Connection, Handler
from concoord_ray.net.greeting import Greeting, HandshakeFailed, Outcome
from concoord_ray.net.handshake import ConnectorHandshake, Handshake, Refusal, WrongMember, checked_secret
from concoord_ray.net.identity import Address, Identity, checked_port
from concoord_ray.paxos.view import Member

logger = logging.getLogger(__name__)


class Dialer:
    """One connection, dialed again whenever it is lost. All methods are for the event loop's thread."""

    def __init__(
        self,
        identity: Identity,
        secret: bytes,
        config: Config,
        handler: Handler,
        expected: Member | None = None,
        *,
        mismatch: Callable[[Member, Member], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """``expected`` is who must answer (None: anyone with the secret).

        ``mismatch(expected, got)`` is told that somebody else did; ``failed(error)`` that we were refused for good,
        with Unauthorized or ConfigurationError: that is tried again only every ``refused_retry_s``. ``tls`` is the
        client context of ``net.tls.from_environment()``.
        """
        self.connection: Connection | None = None
        self.address: Address | None = None
        self.expected = expected
        self._identity = identity
        self._secret = checked_secret(secret)
        self._config = config
        self._handler = handler
        self._mismatch = mismatch
        self._failed = failed
        self._tls = tls
        self._task: asyncio.Task[None] | None = None
        # What close() and retarget() left behind, until it is gone.
        self._cancelled: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        #: The texts of failures already logged at warning, so that a target that stays away is not logged for ever.
        self._last_failure = ""

    def dial(self, address: Address) -> None:
        """Start keeping a connection to ``address``."""
        self.retarget(address, self.expected)

    def retarget(self, address: Address, expected: Member | None) -> None:
        """The target is now ``expected`` at ``address``: drop the connection and go there, at once.

        No effect if that is the target already, so that a directory may say it again and again.
        """
        if self._task is not None and (address, expected) == (self.address, self.expected):
            return
        self.close()
        self.address, self.expected = address, expected
        self._task = asyncio.get_running_loop().create_task(self._keep(address, expected))
        self._task.add_done_callback(_log_crash)

    def close(self) -> None:
        """Close the connection and dial no more, until ``dial`` or ``retarget``."""
        if self._task is not None:
            self._task.cancel()
            self._cancelled.add(self._task)
            self._task.add_done_callback(self._cancelled.discard)
            self._task = None
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    async def wait_closed(self) -> None:
        """After ``close``: wait until nothing is left, at most twice ``close_timeout_s``."""
        if self._cancelled:
            await asyncio.wait(self._cancelled, timeout=self._config.close_timeout_s)
        try:
            await asyncio.wait_for(self._idle.wait(), 2 * self._config.close_timeout_s)
        except asyncio.TimeoutError:
            logger.warning("a connection of %s to %s did not close in time", self._identity, self.address)

    async def _keep(self, address: Address, expected: Member | None) -> None:
        """Dial, wait for the loss, wait a little, dial."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(self._config.reconnect_min_s, self._config.reconnect_max_s)
        while True:
            lost = asyncio.Event()
            outcome = await self._attempt(address, expected, lost)
            if outcome.connection is not None:
                opened_s = loop.time()
                await lost.wait()
                # One that opens and falls at once is no better than one that does not open.
                if loop.time() - opened_s >= self._config.reconnect_max_s:
                    backoff.reset()
                delay_s = backoff.next_s()
            else:
                delay_s = self._delay_s(address, outcome, backoff)
            await asyncio.sleep(delay_s)

    async def _attempt(self, address: Address, expected: Member | None, lost: asyncio.Event) -> Outcome:
        """One dial and handshake."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Outcome] = loop.create_future()

        def settled(outcome: Outcome) -> None:
            connection = outcome.connection
            if connection is not None:
                self._connections.add(connection)
                self._idle.clear()
            if done.cancelled():  # closed or retargeted in this very turn
                if connection is not None:
                    connection.close()
                return
            if connection is not None:
                self.connection = connection
                self._last_failure = ""
            done.set_result(outcome)

        def gone(connection: Connection) -> None:
            if self.connection is connection:
                self.connection = None
            self._connections.discard(connection)
            if not self._connections:
                self._idle.set()
            lost.set()

        def make_handshake(binding: bytes) -> Handshake:
            return ConnectorHandshake(self._identity, self._secret, expected, binding)

        greeting = Greeting(make_handshake, self._config, self._handler, settled, gone)
        connecting = loop.create_task(self._connect(address, greeting))
        try:
            # The greeting's own timer settles `done` also while TCP or TLS are still on their way.
            outcome = await done
            if outcome.connection is not None:
                await connecting  # which cancelled now would close the transport
            return outcome
        except asyncio.CancelledError:
            greeting.abandon(Refusal.LEFT, HandshakeFailed("the dialer was closed or retargeted."))
            raise
        finally:
            connecting.cancel()
            await asyncio.wait([connecting])  # Its socket is closed in the turns after the cancel.

    async def _connect(self, address: Address, greeting: Greeting) -> None:
        timeout_s = self._config.handshake_timeout_s if self._tls is not None else None
        try:
            checked_port(address.port)
            await asyncio.get_running_loop().create_connection(
                lambda: greeting, address.host, address.port, ssl=self._tls, ssl_handshake_timeout=timeout_s,
                server_hostname="" if self._tls is not None else None,
            )  # fmt: skip
        except ssl.SSLCertVerificationError as error:
            greeting.abandon(Refusal.TLS, ConfigurationError(
                f"the certificate of {address} is not signed by the CA in RAY_TLS_CA_CERT ({error}): "
                "use certificates of one CA in every process."
            ))  # fmt: skip
        except OSError as error:
            greeting.abandon(Refusal.TLS if isinstance(error, ssl.SSLError) else Refusal.LEFT, error)
        except ValueError as error:
            greeting.abandon(Refusal.LEFT, ConfigurationError(f"{address} is not an address: {error}."))

    def _delay_s(self, address: Address, outcome: Outcome, backoff: Backoff) -> float:
        """Report a failed attempt, and say how long to wait after it."""
        error = outcome.error
        text = str(error)
        # Members restart all the time, and who dials them need not hear of it; a refusal is somebody's to mend.
        level = logging.INFO if isinstance(error, OSError) else logging.WARNING
        level = logging.DEBUG if text == self._last_failure else level
        self._last_failure = text
        logger.log(level, "%s cannot connect to %s at %s: %s", self._identity, self.expected or "anyone", address, text)
        if isinstance(error, (Unauthorized, ConfigurationError)):
            if self._failed is not None:
                self._failed(error)
            return self._config.refused_retry_s
        if isinstance(error, WrongMember) and self._mismatch is not None:
            self._mismatch(error.expected, error.got)
        return backoff.next_s()


def _log_crash(task: asyncio.Task[None]) -> None:
    """A dialer ends by being cancelled; anything else is a fault, of ours or of a callback."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("a dialer stopped", exc_info=error)
