"""Both ends of a connection, for tests: identities, a handler that remembers, a transport that only records."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from concoord_ray.config import Config
from concoord_ray.net.connection import Connection, Handler
from concoord_ray.net.dialer import Dialer
from concoord_ray.net.identity import Address, Identity
from concoord_ray.net.listener import Listener
from concoord_ray.paxos.view import Member, Role

SECRET = b"s" * 32
REPLICA = Identity("default", Member(Role.REPLICA, 0, 0xA11CE))
CLIENT = Identity("default", Member(Role.CLIENT, 0, 0xB0B))
CONFIG = Config(reconnect_min_s=0.01, reconnect_max_s=0.05, close_timeout_s=0.5)

#: No test waits longer than this for anything.
PATIENCE_S = 20.0

Loop = Callable[[], asyncio.AbstractEventLoop]


def config(**changes: Any) -> Config:
    """The tests' configuration, with ``changes``."""
    return msgspec.structs.replace(CONFIG, **changes)


def run(new_loop: Loop, main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` to its end on a loop of its own, and leave nothing behind, however it ends."""
    loop = new_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(main, PATIENCE_S))
    finally:
        # After a failure the test's own clean-up did not happen, and what it left would blame a later test.
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=PATIENCE_S))
        # Transports say goodbye in the turns after they were closed.
        for _ in range(3):
            loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds; ``run`` bounds the wait."""
    while not condition():  # noqa: ASYNC110 (what is waited for knows nothing of events)
        await asyncio.sleep(0.002)


class Recorder:
    """A handler that remembers everything, and echoes if told to."""

    def __init__(self, *, echo: bool = False) -> None:
        self.echo = echo
        self.connections: list[Connection] = []
        self.reads: list[list[bytes]] = []
        self.ended: list[tuple[Connection, Exception | None]] = []

    @property
    def payloads(self) -> list[bytes]:
        """Every payload, in order, whatever the reads were."""
        return [payload for read in self.reads for payload in read]

    def opened(self, connection: Connection) -> None:
        self.connections.append(connection)

    def received(self, connection: Connection, payloads: list[bytes]) -> None:
        self.reads.append(payloads)
        if self.echo:
            for payload in payloads:
                connection.send(payload)

    def closed(self, connection: Connection, error: Exception | None) -> None:
        self.ended.append((connection, error))


class FakeTransport(asyncio.Transport):
    """Keeps what is written; its buffer is as full as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.buffered_bytes = 0
        self.calls: list[str] = []

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.writes.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return self.buffered_bytes

    def pause_reading(self) -> None:
        self.calls.append("pause_reading")

    def resume_reading(self) -> None:
        self.calls.append("resume_reading")

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")


class Bench:
    """One connection over a fake transport."""

    def __init__(self, handler: Handler, settings: Config = CONFIG, *, transport: FakeTransport | None = None) -> None:
        self.transport = transport or FakeTransport()
        self.gone: list[Connection] = []
        self.connection = Connection(self.transport, CLIENT, False, settings, handler, self.gone.append)
        self.connection.begin(b"")


async def turn() -> None:
    """Let the loop end the turn that is under way."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


class Pair:
    """A listener and a dialer on one loop, and the handlers of both. ``async with`` connects and closes them."""

    def __init__(self, settings: Config = CONFIG, *, echo: bool = False) -> None:
        self.server = Recorder(echo=echo)
        self.client = Recorder()
        self.listener = Listener(REPLICA, SECRET, settings, self.server)
        self.dialer = Dialer(CLIENT, SECRET, settings, self.client, REPLICA.member)

    async def __aenter__(self) -> Pair:
        self.dialer.dial(await self.listener.start("127.0.0.1", 0))
        await until(lambda: bool(self.server.connections and self.client.connections))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.dialer.close()
        await self.dialer.wait_closed()
        await self.listener.close()


class Stranger:
    """A raw TCP peer that says what the test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, address: Address) -> Stranger:
        return cls(*await asyncio.open_connection(*address))

    def say(self, data: bytes) -> None:
        self._writer.write(data)

    async def hear_frame(self) -> bytes:
        length = int.from_bytes(await self._reader.readexactly(4), "big")
        return await self._reader.readexactly(length)

    async def hear_end(self) -> bytes:
        """Everything until the other side closes or resets, then leave."""
        heard = b""
        with contextlib.suppress(ConnectionResetError):
            while part := await self._reader.read(1 << 16):
                heard += part
        await self.leave()
        return heard

    async def leave(self) -> None:
        self._writer.close()
        await asyncio.wait([asyncio.ensure_future(self._writer.wait_closed())])
