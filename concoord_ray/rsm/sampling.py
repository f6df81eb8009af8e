"""Samples of what is too large to be looked at as a whole, chosen by size and seed alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

#: So many bytes of a text or buffer cost as much as one node.
NODE_BYTES = 64

_Made = TypeVar("_Made")


class OverBudget(Exception):
    """The graph has more nodes than the budget."""


class Parts(NamedTuple):
    """What an object consists of, or a sample of that."""

    size: int
    parts: Sequence[Any]
    is_ordered: bool = True
    #: Nodes that were looked at already.
    cost: int = 0
    #: What the parts are called.
    names: bytes = b""


class Sampler:
    """Takes what objects consist of. Where there is no room, it samples, or else raises OverBudget.

    ``depth`` is how deep the walk is: the windows of a list and of the lists in it do not move together.
    """

    def __init__(self, seed: int, *, sampling: bool) -> None:
        self.sampling = sampling
        self.depth = 0
        self._seed = seed
        #: Made on the way: an address must not be used again before the end.
        self._kept: list[Any] = []

    def keep(self, made: _Made) -> _Made:
        """Keep what was made on the way until the end of the walk."""
        self._kept.append(made)
        return made

    def fits(self, size: int, room: int) -> bool:
        """Whether all parts are wanted, as they come. Raises OverBudget if they are wanted and there is no room."""
        if self.sampling:
            return False
        if size > room:
            raise OverBudget
        return True

    def cut(self, size: int, room: int, part: Callable[[int, int], Iterable[Any]]) -> list[Any]:
        """The parts if there is room for them, else a sample. ``part`` gives those from one position to another."""
        if self.fits(size, room):
            return list(part(0, size))
        if size <= room:
            start = spread(self._seed, self.depth, size)  # Who comes first is not always the same.
            return [*part(start, size), *part(0, start)]
        start = spread(self._seed, self.depth, size)
        ends = 1 if room > 2 else 0
        stop = start + max(0, room - 2 * ends)
        window = [*part(start, min(stop, size)), *part(0, max(0, stop - size))]
        return [*part(size - ends, size), *window, *part(0, ends)]

    def entries(self, keys: Collection[Any], values: Collection[Any], room: int) -> Parts:
        """Keys, each with its value."""
        size = len(keys)
        if self.fits(2 * size, room):
            return Parts(size, [*keys, *values])

        def part(a: int, b: int) -> Iterable[Any]:
            return itertools.chain.from_iterable(zip(_part(keys, a, b), _part(values, a, b), strict=True))

        return Parts(size, self.cut(size, room // 2, part))

    def nothing(self, size: int) -> list[Any]:
        """A sample of what can be taken as a whole only."""
        return self.cut(size, -1, lambda a, b: ())

    def text(self, value: Any, room: int) -> tuple[list[Any], int]:
        """A text or buffer in one piece if there is room for it, else a sample; and the cost."""
        cost = len(value) // NODE_BYTES
        if cost <= room:
            return [value], cost
        if not self.sampling:
            raise OverBudget
        room = max(0, room)
        start = spread(self._seed, self.depth, len(value))
        return [value[:NODE_BYTES], value[-NODE_BYTES:], value[start : start + room * NODE_BYTES]], room


def spread(seed: int, salt: int, size: int) -> int:
    """A position below ``size``. Seeds reach all of them evenly, in whatever steps they grow. (SplitMix64.)"""
    mixed = (seed * 0x9E3779B97F4A7C15 + salt * 0xD1B54A32D192ED03) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return ((mixed ^ (mixed >> 31)) * size) >> 64


def _part(entries: Any, start: int, stop: int) -> Iterator[Any]:
    """Entries of what has no slices, from the nearer end."""
    size = len(entries)
    if start <= size // 2:
        return itertools.islice(entries, start, stop)
    backwards = list(itertools.islice(reversed(entries), size - stop, size - start))
    return iter(backwards[::-1])
