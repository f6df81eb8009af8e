"""The structural digest of a graph of Python objects: equal on replicas that executed the same commands.

Pickle bytes are no use for that: equal values pickle to different bytes, and the order of a set survives no round trip.
So the graph is walked instead, and what counts of an object is the name of its type, and its contents:

- the order of sequences and dicts counts, that of sets and attributes does not; floats count by their bits;
- classes, functions and modules count by name, what has no state to be seen (a generator, a lock) by its type;
- sharing does not count: a value that is referred to twice is as good as two equal ones. A constant of the code is
  shared with the state of a replica that ran, but not with that of one that was restored from a snapshot;
- a class that says itself what its state is (``__getstate__``, ``__reduce__``) is believed, as a snapshot holds nothing
  else, and what is derived (``functools.cached_property``) is left out. No other code of users runs. MemoryError is
  raised if there is no memory left; whatever else they raise, their state is then that of their attributes. A graph
  with an object in it that cannot be looked at at all counts by what it raised.

The token of an object is a function of its contents (a Merkle tree), so that what is met again need not be walked
again. A reference back to an object that is being walked counts by its distance, so that the token of a member of a
cycle depends on the way to it. Such a token is used again, since the way is the same on all replicas; but not from one
element of a set to another, since sets are walked in any order.

Bounds: a graph of more than ``budget`` nodes is sampled, by contents and ``seed`` alone. A container shows its length,
its ends, and a window that the seed places; a child gets a share of what is left; and nothing is remembered. To skip
to a window takes some 6 ns an entry where there are no slices. A set, which has no positions, counts as a whole up to
``SET_FACTOR`` times what is left of the budget, and beyond that by its length.
"""

from __future__ import annotations

import hashlib
import operator
from typing import Any

from concoord_ray.rsm.anatomy import MARK, PLAIN, Anatomist, address, plain, type_name
from concoord_ray.rsm.memory import is_out_of_memory
from concoord_ray.rsm.sampling import NODE_BYTES, OverBudget, Parts, Sampler
from concoord_ray.rsm.wire import encode_plain

#: In a sample, a child gets one in so many parts of what is left.
SHARES = 4
#: What meeting an object again costs at most. It costs, or else sharing would decide whether a graph is sampled.
MET_AGAIN_COST = 64

_TEXTS = frozenset({address(str), address(bytes)})
_NOWHERE = 1 << 60


def digest(value: Any, *, budget: int, seed: int) -> bytes:
    """16 bytes: equal for equal graphs, different for others, unless they differ in what was not sampled.

    ``budget`` is how many nodes are looked at. A value is one node, and so are 64 bytes of a text. ``seed`` chooses
    them if there are more, and must be the same on all replicas. Raises MemoryError if this process has no more.
    """
    try:
        return _hash(_token(value, budget, seed))
    except BaseException as error:  # A metaclass, or a ``__dict__``, of a user's that raises whatever it is asked.
        if is_out_of_memory(error):
            raise
        return _hash(MARK + b"!" + encode_plain(type_name(type(error))))


def _token(value: Any, budget: int, seed: int) -> bytes:
    try:
        return _Walk(budget, seed, sampling=False).run(value)
    except OverBudget:
        return _Walk(budget, seed, sampling=True).run(value)


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _short(token: bytes) -> bytes:
    return token if len(token) <= NODE_BYTES else MARK + encode_plain(_hash(token))


class _Frame:
    """An object whose parts are being walked."""

    __slots__ = ("at", "cost", "escapes", "head", "known", "left", "parts", "share", "tokens")

    def __init__(self, at: int, head: bytes, left: int, contents: Parts, known: dict[int, tuple[bytes, int]]) -> None:
        self.at = at
        self.head = head
        self.left = left
        self.cost = 1 + contents.cost
        self.parts = iter(contents.parts)
        self.tokens: list[bytes] = []
        #: The lowest depth that is referred back to from below; -1 if an earlier way decided a token.
        self.escapes = _NOWHERE
        #: If the order does not count: the budget of each part; and what was known by way before.
        self.share = 0 if contents.is_ordered else max(1, left // len(contents.parts))
        self.known = known


class _Walk:
    """One walk over one graph. It has a stack of its own, since a list may be nested deeper than Python's goes."""

    def __init__(self, budget: int, seed: int, *, sampling: bool) -> None:
        self._budget = budget
        self._sampling = sampling
        self._sampler = Sampler(seed, sampling=sampling)
        self._anatomist = Anatomist(self._sampler)
        self._stack: list[_Frame] = []
        #: The depth of each object that is being walked.
        self._open: dict[int, int] = {}
        #: (token, cost) of what was walked: where contents alone decide it, and where the way does too.
        self._whole: dict[int, tuple[bytes, int]] = {}
        self._by_way: dict[int, tuple[bytes, int]] = {}
        #: Of the last token.
        self._cost = 0

    def run(self, value: Any) -> bytes:
        """The token of the graph. Raises OverBudget, unless it samples."""
        token = self._enter(value, self._budget)
        stack = self._stack
        while stack:
            token = self._advance(stack[-1])
        assert token is not None
        return token

    def _advance(self, frame: _Frame) -> bytes | None:
        """Walk parts until one of them has parts of its own, or all are done: then the frame's token."""
        tokens, parts, share = frame.tokens, frame.parts, frame.share
        for part in parts:
            left = frame.left
            if self._sampling:
                if left <= 0:
                    break
                left = share or max(1, left // min(SHARES, 1 + operator.length_hint(parts)))
            elif share:
                self._by_way = {}
            token = self._enter(part, left)
            if token is None:
                return None
            tokens.append(token)
            frame.left -= self._cost
            frame.cost += self._cost
        return self._leave(frame)

    def _leave(self, frame: _Frame) -> bytes:
        stack, depth = self._stack, len(self._stack) - 1
        stack.pop()
        del self._open[frame.at]
        if frame.share:
            frame.tokens.sort()
            self._by_way = frame.known
        token = _short(frame.head + b"".join(frame.tokens))
        if not self._sampling:
            known = self._whole if frame.escapes > depth else self._by_way
            known[frame.at] = token, frame.cost
        if stack:
            above = stack[-1]
            above.tokens.append(token)
            above.left -= frame.cost
            above.cost += frame.cost
            if frame.escapes < depth:
                above.escapes = min(above.escapes, frame.escapes)
        return token

    def _enter(self, value: Any, left: int) -> bytes | None:
        """The token of a value, whose cost is then ``self._cost``; None if it has parts, which come next."""
        if address(type(value)) in PLAIN:
            return self._plain(value, left)
        at, depth = address(value), len(self._stack)
        opened = self._open.get(at)
        if opened is not None:
            self._cost = 1
            self._escape(opened)
            return MARK + b"^" + encode_plain(depth - opened)
        known = self._whole.get(at)
        if known is None:
            known = self._by_way.get(at)
            if known is not None:
                self._escape(-1)
        if known is not None:
            self._cost = min(known[1], MET_AGAIN_COST)
            return known[0]
        self._sampler.depth = depth
        head, contents = self._anatomist.take(value, left - 1)
        token = self._leaf(head, contents, left)
        if token is None:
            self._open[at] = depth
            self._stack.append(_Frame(at, head, left - 1 - contents.cost, contents, self._by_way))
        return token

    def _escape(self, depth: int) -> None:
        above = self._stack[-1]
        above.escapes = min(above.escapes, depth)

    def _plain(self, value: Any, left: int) -> bytes:
        if left <= 0 and not self._sampling:
            raise OverBudget
        self._cost = 1
        if address(type(value)) in _TEXTS and len(value) > NODE_BYTES:
            self._sampler.depth = len(self._stack)
            pieces, cost = self._sampler.text(value, left - 1)
            self._cost += cost
            if len(pieces) > 1:
                return _short(MARK + b"t" + b"".join(map(plain, (len(value), *pieces))))
            return _short(plain(value))
        return plain(value)

    def _leaf(self, head: bytes, contents: Parts, left: int) -> bytes | None:
        """The token of an object with plain parts only, by C code; None if it has others, or costs too much."""
        parts = contents.parts
        kinds = set(map(address, map(type, parts)))
        if not kinds <= PLAIN:
            return None
        cost = 1 + contents.cost + len(parts)
        if not kinds.isdisjoint(_TEXTS):
            texts = parts if kinds <= _TEXTS else [part for part in parts if address(type(part)) in _TEXTS]
            cost += sum(map(len, texts)) // NODE_BYTES
        if cost > max(1, left):
            return None
        self._cost = cost
        try:
            body = encode_plain(parts) if contents.is_ordered else b"".join(sorted(map(encode_plain, parts)))
        except (OverflowError, UnicodeEncodeError):  # Some value is not MessagePack's.
            return None
        return _short(head + body)
