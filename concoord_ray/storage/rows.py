"""Records as rows: what a row's key is, and how it is known to be the row that was written.

A row's content is its record as MessagePack, so its table (the record's tag) and key are inside of it; the checksum is
over the content, and a row whose key is not its content's was moved. Numbers of kinds are in the order in which an
acceptor can replay rows: an epoch is joined before anything is accepted in it, and what it promised comes last, since
replaying an acceptance sets the promise to *its* ballot.

The checksum is BLAKE2b of 8 bytes: in the standard library, at 1 microsecond for a small row no cost beside an fsync,
and unlike a CRC not linear, so errors that belong together (in a row, its checksum and their sum) do not cancel out.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from hashlib import blake2b
from typing import Any, NamedTuple, Union

import msgspec

from concoord_ray.paxos.outputs import Accepted, Joined, Promised, Record, Truncated
from concoord_ray.paxos.view import Role


class Kind(IntEnum):
    """What a row holds. The totals lie beside the newest accepted rows, so that a commit changes few pages."""

    IDENTITY = 0
    JOINED = 1
    TRUNCATED = 2
    ACCEPTED = 3
    TOTALS = 4
    PROMISED = 5


class Identity(msgspec.Struct, frozen=True, array_like=True, tag_field="type", tag=100):
    """Whose data it is."""

    ensemble: str
    role: Role
    index: int
    incarnation: int


class Totals(msgspec.Struct, frozen=True, array_like=True, tag_field="type", tag=101):
    """How many commits there have been, and the number and the sum of the checksums (modulo 2**64) of all other rows.

    A row that is lost, or that came back from an older state, is missed or found by them.
    """

    commit: int
    rows: int
    checksums: int


Content = Union[Record, Identity, Totals]


class Key(NamedTuple):
    """A row's place: by slot before epoch, so that truncation takes rows from one end."""

    kind: int
    slot: int = 0
    epoch: int = 0

    def __str__(self) -> str:
        name = Kind(self.kind).name.lower() if self.kind in tuple(Kind) else f"kind {self.kind}"
        return f"{name} (slot {self.slot}, epoch {self.epoch})"


class Row(NamedTuple):
    """One row, as stored."""

    kind: int
    slot: int
    epoch: int
    checksum: int
    content: bytes


TOTALS = Key(Kind.TOTALS)
_KEYS: dict[type[Content], Callable[[Any], Key]] = {
    Accepted: lambda record: Key(Kind.ACCEPTED, record.pvalue.slot, record.epoch),
    Promised: lambda record: Key(Kind.PROMISED, 0, record.epoch),
    Joined: lambda record: Key(Kind.JOINED, 0, record.view.epoch),
    Truncated: lambda _: Key(Kind.TRUNCATED),
    Identity: lambda _: Key(Kind.IDENTITY),
    Totals: lambda _: TOTALS,
}

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Content).decode


def to_row(content: Content) -> Row:
    """The row of a record."""
    data = _encode(content)
    return Row(*_key_of(content), _checksum(data), data)


def from_row(row: Row) -> Content:
    """What a row holds; ``ValueError`` says what is wrong with it."""
    try:
        checksum = _checksum(row.content)
    except TypeError as error:
        raise ValueError("its content is not bytes") from error
    if checksum != row.checksum:
        raise ValueError("its checksum is not that of its content")
    try:
        content: Content = _decode(row.content)
    except msgspec.MsgspecError as error:
        raise ValueError(f"its content is no record of this version: {error}") from error
    if _key_of(content) != row[:3]:
        raise ValueError(f"it is where {_key_of(content)} was written")
    return content


def _key_of(content: Content) -> Key:
    return _KEYS[type(content)](content)


def _checksum(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big", signed=True)
