"""Settings of a TCP connection: no delay for small frames, and notice of peers that died without a word.

What waits to be sent waits in ``connection``, where urgent frames can pass it, and not in the kernel.

A process that dies closes its sockets; a node that vanishes does not. Keepalive probes find that out on an idle
connection, ``TCP_USER_TIMEOUT`` on one with bytes under way. The latter also ends a connection whose peer reads
nothing for ``peer_timeout_s``: back-pressure is for moments, and a peer stopped for longer is as good as dead.
"""

from __future__ import annotations

import asyncio
import socket

from concoord_ray.config import Config

_KEEPALIVE_PROBES = 3
#: How much that has not been sent the kernel keeps, beside what is under way.
_UNSENT_BYTES = 256 << 10


def tune(transport: asyncio.BaseTransport, config: Config) -> None:
    """Set the options on the socket under ``transport``, as far as the system has them."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # An idle time, then probes, all within peer_timeout_s. The kernel counts in whole seconds, at least one.
    interval_s = max(1, round(config.peer_timeout_s / (_KEEPALIVE_PROBES + 1)))
    options = {
        "TCP_KEEPIDLE": interval_s,
        "TCP_KEEPALIVE": interval_s,  # macOS's name for the idle time
        "TCP_KEEPINTVL": interval_s,
        "TCP_KEEPCNT": _KEEPALIVE_PROBES,
        "TCP_USER_TIMEOUT": max(1, round(config.peer_timeout_s * 1000)),
        "TCP_NOTSENT_LOWAT": _UNSENT_BYTES,
    }
    for name, value in options.items():
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def close_within(transport: asyncio.Transport, timeout_s: float) -> asyncio.TimerHandle:
    """Close ``transport`` after what it has buffered was sent, but cut it after ``timeout_s``."""
    transport.close()
    return asyncio.get_running_loop().call_later(timeout_s, transport.abort)
