"""Frames: a 4-byte big-endian length, then that many bytes of payload.

A large payload may come in pieces, each with a length of its own, whose highest bit says that it is a piece, and the
next one whether it is the last. Frames may stand between the pieces of one payload, pieces of another may not.

Sans-IO and incremental: bytes in, complete payloads out, however the network cut or merged them. Every byte is copied
at most twice, so the cost of a large frame is linear in its size and never depends on the number of reads it came in.

Invariants: a payload has between one byte and the limit, however it comes; a length outside of that is found as soon
as its four bytes are there, before anything is buffered for it. After a violation the parser is finished: so is its
connection. What is kept of a payload that comes in pieces takes no more than a few times its own size of memory,
however small its pieces are, and whatever else came in one read with them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from concoord_ray.config import LARGEST_FRAME_BYTES
from concoord_ray.errors import FrameTooLarge, ProtocolViolation

#: Bytes of the length in front of every payload, or piece of one.
HEADER_BYTES = 4

_PIECE = 1 << 31
_LAST = 1 << 30
#: A part of a payload that is smaller, or less than a quarter of its read, is copied: it keeps the whole read alive.
_KEPT_BYTES = 16 << 10

pack_length = struct.Struct(">I").pack
_length_at = struct.Struct(">I").unpack_from


def frame(payload: bytes) -> bytes:
    """``payload`` as it goes on the wire. A connection's own, lower, limit is checked by the connection."""
    if len(payload) > LARGEST_FRAME_BYTES:
        raise FrameTooLarge(f"{len(payload)} bytes do not fit into one frame (at most {LARGEST_FRAME_BYTES}).")
    if not payload:
        raise ValueError("an empty payload is not a frame: send at least one byte.")
    return pack_length(len(payload)) + payload


def cut(payload: bytes, piece_bytes: int) -> Iterator[bytes | memoryview]:
    """``payload`` in pieces of at most so many bytes: the length of each, and the piece itself."""
    view = memoryview(payload)
    for start in range(0, len(payload), piece_bytes):
        piece = view[start : start + piece_bytes]
        is_last = start + piece_bytes >= len(payload)
        yield pack_length(_PIECE | (_LAST if is_last else 0) | len(piece))
        yield piece


def bad_length(header: int, max_frame_bytes: int, before: int = 0) -> ProtocolViolation:
    """The error for a length that no correct peer sends, with a guess at what the peer speaks instead.

    So many bytes of a payload that comes in pieces are there ``before`` it.
    """
    length = before + (header & (_LAST - 1)) if header & _PIECE else header
    start = pack_length(header)
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

    __slots__ = ("_chunks", "_head", "_is_last", "_is_piece", "_max_frame_bytes", "_missing_bytes", "_pieces", "_size")

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        #: At most one of the next two is non-empty: an incomplete length, or the parts of what is incomplete.
        self._head = b""
        self._chunks: list[bytes | memoryview] = []
        self._missing_bytes = 0
        #: What is incomplete is a piece, and the last one.
        self._is_piece = self._is_last = False
        #: What is there of a payload that comes in pieces, and how many bytes that is, with the incomplete one.
        self._pieces: list[bytes | bytearray | memoryview] = []
        self._size = 0

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
        position = self._missing_bytes
        if position:
            if len(data) < position:
                self._chunks.append(data)
                self._missing_bytes -= len(data)
                return payloads
            self._chunks.append(memoryview(data)[:position])
            self._missing_bytes = 0
            self._complete(payloads)
        elif self._head:
            data = self._head + data
            self._head = b""
        end = len(data)
        while (start := position + 4) <= end:
            (length,) = _length_at(data, position)
            if 0 < length <= self._max_frame_bytes:
                self._is_piece = False
                position = start + length
                if position <= end:
                    payloads.append(data[start:position])
                    continue
            else:
                position = start + self._begin_piece(length)
            if position > end:
                self._chunks.append(memoryview(data)[start:])
                self._missing_bytes = position - end
                return payloads
            self._chunks.append(memoryview(data)[start:position])
            self._complete(payloads)
        if position < end:
            self._head = data[position:]
        return payloads

    def _begin_piece(self, header: int) -> int:
        """How many bytes it has."""
        length = header & (_LAST - 1)
        if not header & _PIECE or not length or self._size + length > self._max_frame_bytes:
            raise bad_length(header, self._max_frame_bytes, self._size)
        self._size += length
        self._is_piece, self._is_last = True, bool(header & _LAST)
        return length

    def _complete(self, payloads: list[bytes]) -> None:
        """All chunks are there: of a frame, or of a piece."""
        if not self._is_piece:
            payloads.append(b"".join(self._chunks))
        else:
            for chunk in self._chunks:
                self._keep(chunk)
            if self._is_last:
                payloads.append(b"".join(self._pieces))
                self._pieces.clear()
                self._size = 0
        self._chunks.clear()

    def _keep(self, chunk: bytes | memoryview) -> None:
        """Keep a part of a payload for the parts to come: as it is, or copied, next to those copied before it."""
        pieces, size = self._pieces, len(chunk)
        if size >= _KEPT_BYTES and (isinstance(chunk, bytes) or 4 * size >= memoryview(chunk.obj).nbytes):
            pieces.append(chunk)
        elif pieces and isinstance(pieces[-1], bytearray):
            pieces[-1] += chunk
        else:
            pieces.append(bytearray(chunk))
