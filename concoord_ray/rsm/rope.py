"""Bytes in pieces, as a pickler gives them away and as a network brings them: nothing large is copied to be joined.

A snapshot may have hundreds of megabytes, and the replica that takes it, sends it or restores it goes on with other
things meanwhile. Hence two properties, on which the latency of everybody else rests:

- **Nobody waits for the whole of it.** C code that pickles into an ``io.BytesIO``, or out of one, lets no other thread
  run until it is through. A file in Python gets a frame of some 64 KiB at a time, and between two of them whoever
  waits for the interpreter gets it. Nothing here copies more than ``_BLOCK_BYTES`` at once.
- **Large values are not copied.** A pickler hands on ``bytes`` from 64 KiB on as they are. So the snapshot of a hundred
  values of a megabyte has those very values in it, and takes no memory of its own.

A piece is never changed once it is in a rope. What is no ``bytes`` could be, by its owner: it is copied.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

#: What one copy of memory takes at most: a tenth of a millisecond.
_BLOCK_BYTES = 1 << 20


class Rope:
    """A long string of bytes. A file to write to at its end; ``reader`` gives files to read from it."""

    __slots__ = ("_begins", "_size", "pieces")

    def __init__(self, pieces: Iterable[bytes] = ()) -> None:
        #: All of it, in order; none is empty.
        self.pieces: list[bytes] = []
        #: Where each of them begins.
        self._begins: list[int] = []
        self._size = 0
        for piece in pieces:
            self._append(piece)

    @classmethod
    def of(cls, data: bytes | Rope) -> Rope:
        """The same bytes as a rope."""
        return data if isinstance(data, Rope) else cls((data,))

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rope) and bytes(self) == bytes(other)

    __hash__ = None  # type: ignore[assignment]  # It grows.

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append; see ``pickle.Pickler``."""
        if type(data) is bytes:
            self._append(data)
            return len(data)
        with memoryview(data) as view, view.cast("B") as octets:
            for begin in range(0, len(octets), _BLOCK_BYTES):
                self._append(bytes(octets[begin : begin + _BLOCK_BYTES]))
            return len(octets)

    def cut(self, begin: int, size: int) -> bytes:
        """So many bytes from a place on; fewer if it ends before."""
        return b"".join(self._parts(begin, size))

    def reader(self, begin: int = 0) -> RopeReader:
        """A file that reads from a place on. The rope must not grow meanwhile."""
        return RopeReader(self, begin)

    def _append(self, piece: bytes) -> None:
        if piece:
            self.pieces.append(piece)
            self._begins.append(self._size)
            self._size += len(piece)

    def _parts(self, begin: int, size: int) -> Iterator[bytes]:
        """What makes up a section; a piece that is in it as a whole is not copied."""
        place = bisect_right(self._begins, begin) - 1
        while size > 0 and begin < self._size:
            piece, first = self.pieces[place], begin - self._begins[place]
            part = piece[first : first + size]
            yield part
            begin += len(part)
            size -= len(part)
            place += 1


class RopeReader:
    """What ``pickle.Unpickler`` wants of a file."""

    __slots__ = ("_at", "_rope")

    def __init__(self, rope: Rope, begin: int) -> None:
        self._rope = rope
        self._at = begin

    def read(self, size: int, /) -> bytes:
        """The next so many bytes, or as many as are left."""
        data = self._rope.cut(self._at, size)
        self._at += len(data)
        return data

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the buffer with what comes next, as far as it goes."""
        filled = 0
        while filled < len(buffer):
            data = self.read(min(_BLOCK_BYTES, len(buffer) - filled))
            if not data:
                break
            buffer[filled : filled + len(data)] = data
            filled += len(data)
        return filled

    def readline(self) -> bytes:
        """Up to and with the next newline. Only damaged pickles ask for lines."""
        octets = []
        while octet := self.read(1):
            octets.append(octet)
            if octet == b"\n":
                break
        return b"".join(octets)
