"""Who is at an end of a connection, and where it listens."""

from __future__ import annotations

import sys
from typing import Annotated, NamedTuple

import msgspec

from concoord_ray.errors import ConfigurationError
from concoord_ray.paxos.view import Member

#: Raised by every change to frames, handshake or messages: peers of different versions refuse each other.
PROTOCOL_VERSION = 2

#: "3.11": pickled code and values do not travel between Python minor versions.
PYTHON_MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"

_LONGEST_ENSEMBLE = 255
_LONGEST_PYTHON = 16


class Identity(msgspec.Struct, frozen=True):
    """What a process says of itself, and what its proof in the handshake covers."""

    ensemble: Annotated[str, msgspec.Meta(min_length=1, max_length=_LONGEST_ENSEMBLE)]
    member: Member
    python: Annotated[str, msgspec.Meta(max_length=_LONGEST_PYTHON)] = PYTHON_MINOR
    protocol: int = PROTOCOL_VERSION

    def __post_init__(self) -> None:
        if not 0 < len(self.ensemble) <= _LONGEST_ENSEMBLE:
            raise ConfigurationError(
                f"ensemble name of {len(self.ensemble)} characters: use between 1 and {_LONGEST_ENSEMBLE}."
            )

    def __str__(self) -> str:
        return f"{self.member} of {self.ensemble!r}"


def checked_port(port: int) -> int:
    """``port``, or ValueError: uvloop would take it modulo 65536 and dial somebody else."""
    if not 0 <= port < 1 << 16:
        raise ValueError(f"port {port} is not between 0 and 65535")
    return port


class Address(NamedTuple):
    """Where a listener can be dialed."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
