"""TLS with Ray's own certificates.

Ray is told by ``RAY_USE_TLS``, ``RAY_TLS_SERVER_CERT``, ``RAY_TLS_SERVER_KEY`` and ``RAY_TLS_CA_CERT`` to protect its
connections; the same variables protect ours, mutually as Ray's: each side shows the certificate and accepts what the CA
signed.

Deliberate deviation: host names are not checked against certificates. Members move between nodes and certificates
made for Ray often do not name the address that is dialed (Ray's own test certificates carry IP addresses as DNS
names). What the check is for, someone with another certificate of the same CA in the middle, is prevented by the
handshake instead: its proofs cover the TLS connection itself (``channel_binding``), which such a relay cannot make
equal on its two sides.
"""

from __future__ import annotations

import asyncio
import os
import ssl

from concoord_ray.errors import ConfigurationError

_CERT, _KEY, _CA = "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT"


def from_environment() -> tuple[ssl.SSLContext, ssl.SSLContext] | None:
    """Contexts for (listeners, dialers) as Ray's variables say, None without ``RAY_USE_TLS``.

    Raises ConfigurationError if TLS is asked for but a file is not named, missing or not what it should be.
    """
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        return None
    for name in (_CERT, _KEY, _CA):
        path = os.environ.get(name, "")
        if not path:
            raise ConfigurationError(f"RAY_USE_TLS is set but {name} is not: set it to the path of a PEM file.")
        if not os.access(path, os.R_OK):
            raise ConfigurationError(f"RAY_USE_TLS is set but {name}={path!r} cannot be read: check path and rights.")
    return _context(ssl.PROTOCOL_TLS_SERVER), _context(ssl.PROTOCOL_TLS_CLIENT)


def channel_binding(transport: asyncio.BaseTransport) -> bytes:
    """Bytes that both ends of one TLS connection know, and that no other TLS connection has; empty without TLS.

    They are the client's Finished message (RFC 5929's tls-unique). RFC 8446 leaves that name undefined for TLS 1.3
    because of resumed and re-authenticated connections; ours are neither.
    """
    tls = transport.get_extra_info("ssl_object")
    return b"" if tls is None else tls.get_channel_binding("tls-unique") or b""


def _context(purpose: int) -> ssl.SSLContext:
    context = ssl.SSLContext(purpose)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(os.environ[_CERT], os.environ[_KEY])
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(
            f"{_CERT}={os.environ[_CERT]!r} and {_KEY}={os.environ[_KEY]!r} are not a certificate and its key: {error}."
        ) from error
    try:
        context.load_verify_locations(os.environ[_CA])
    except OSError as error:
        raise ConfigurationError(f"{_CA}={os.environ[_CA]!r} holds no CA certificate: {error}.") from error
    return context
