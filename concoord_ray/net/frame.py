"""Frames: a 4-byte big-endian length, then that many bytes of payload.

Sans-IO and incremental: bytes in, complete payloads out, however the network cut or merged them. Every byte is copied
at most twice, so the cost of a large frame is linear in its size and never depends on the number of reads it came in.

Invariants: a payload has between one byte and the limit; a length outside of that is found as soon as its four bytes
are there, before anything is buffered for it. After a violation the parser is finished: so is its connection.
"""

from __future__ import annotations

import struct

from concoord_ray.errors import FrameTooLarge, ProtocolViolation

#: Bytes of the length in front of every payload.
HEADER_BYTES = 4

_LARGEST_LENGTH = (1 << 32) - 1

pack_length = struct.Struct(">I").pack
_length_at = struct.Struct(">I").unpack_from


def frame(payload: bytes) -> bytes:
    """``payload`` as it goes on the wire. A connection's own, lower, limit is checked by the connection."""
    if len(payload) > _LARGEST_LENGTH:
        raise FrameTooLarge(f"{len(payload)} bytes do not fit into one frame (at most {_LARGEST_LENGTH}).")
    if not payload:
        raise ValueError("an empty payload is not a frame: send at least one byte.")
    return pack_length(len(payload)) + payload


def bad_length(length: int, max_frame_bytes: int) -> ProtocolViolation:
    """The error for a length that no correct peer sends, with a guess at what the peer speaks instead."""
    start = pack_length(length)
    if start.startswith(b"\x16\x03"):
        hint = " It looks like TLS: set Ray's RAY_USE_TLS alike in every process of the ensemble."
    elif start in (b"GET ", b"POST", b"HEAD", b"PUT ", b"PRI ", b"HTTP", b"SSH-"):
        hint = f" It looks like {start.decode().strip(' -')}: this port speaks only the protocol of concoord_ray."
    else:
        hint = " If the peer is one of ours, give every process the same max_frame_bytes."
    return ProtocolViolation(
        f"frame of {length} bytes announced (first bytes {start.hex()}), allowed are 1 to {max_frame_bytes}.{hint}"
    )


class FrameParser:
    """Cuts a stream of bytes into payloads."""

    __slots__ = ("_chunks", "_head", "_max_frame_bytes", "_missing_bytes")

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        #: At most one of the next two is non-empty: an incomplete length, or the parts of an incomplete payload.
        self._head = b""
        self._chunks: list[bytes] = []
        self._missing_bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take ``data``, give every payload that is complete now.

        Raises ProtocolViolation on a length that is zero or above the limit; payloads complete before it in the same
        ``data`` are dropped, as is the whole connection.
        """
        payloads: list[bytes] = []
        if not self._missing_bytes and not self._head and (end := len(data)) > HEADER_BYTES:
            # By far the most common read: one whole frame.
            (length,) = _length_at(data, 0)
            if length == end - HEADER_BYTES and length <= self._max_frame_bytes:
                return [data[HEADER_BYTES:]]
        if self._missing_bytes:
            if len(data) < self._missing_bytes:
                self._chunks.append(data)
                self._missing_bytes -= len(data)
                return payloads
            self._chunks.append(data[: self._missing_bytes])
            payloads.append(b"".join(self._chunks))
            self._chunks.clear()
            position = self._missing_bytes
            self._missing_bytes = 0
        else:
            position = 0
            if self._head:
                data = self._head + data
                self._head = b""
        end = len(data)
        while (start := position + 4) <= end:
            (length,) = _length_at(data, position)
            if not 0 < length <= self._max_frame_bytes:
                raise bad_length(length, self._max_frame_bytes)
            position = start + length
            if position > end:
                self._chunks.append(data[start:])
                self._missing_bytes = position - end
                return payloads
            payloads.append(data[start:position])
        if position < end:
            self._head = data[position:]
        return payloads
