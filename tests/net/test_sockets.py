"""Every socket is set to answer at once and to notice a peer that vanished."""

from __future__ import annotations

import asyncio
import socket

import pytest

from concoord_ray.net.sockets import tune
from tests.net.ends import Loop, Pair, config, run

SETTINGS = config(peer_timeout_s=8.0)


def is_tuned(sock: socket.socket) -> bool:
    """Whether the options are those that SETTINGS ask for, as far as the system has them."""
    wanted = {"TCP_NODELAY": 1, "TCP_USER_TIMEOUT": 8000, "TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) and all(
        sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value
        for name, value in wanted.items()
        if hasattr(socket, name)
    )


def test_the_options_are_set_on_a_fresh_socket() -> None:
    with socket.socket() as sock:
        assert not is_tuned(sock)
        tune(asyncio.Transport({"socket": sock}), SETTINGS)
        assert is_tuned(sock)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="has no sockets without TCP")
def test_a_transport_without_tcp_is_left_alone() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        tune(asyncio.Transport({"socket": sock}), SETTINGS)
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    tune(asyncio.Transport(), SETTINGS)


def test_both_ends_of_a_connection_are_tuned(new_loop: Loop) -> None:
    async def main() -> None:
        async with Pair(SETTINGS) as pair:
            for connection in pair.server.connections + pair.client.connections:
                assert is_tuned(connection._transport.get_extra_info("socket"))

    run(new_loop, main())
