"""Which hosts can reach which: cuts and clogs, by directed pairs of host names.

A **cut** link loses what is sent over it, a **clogged** one holds it until it is unclogged. Faults overlap freely: a
link is cut as long as any cut covers it. Faults hold for hosts, not for members: who restarts as a new incarnation is
still behind the same partition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

Link = tuple[str, str]


class Links:
    """The state of all links between hosts. A host always reaches itself."""

    def __init__(self, now_ns: Callable[[], int], on_change: Callable[[], None]) -> None:
        self._now_ns = now_ns
        self._on_change = on_change
        self._cuts: dict[int, frozenset[Link]] = {}
        self._clogs: dict[int, frozenset[Link]] = {}
        self._cut: frozenset[Link] = frozenset()
        self._severed_since_ns: dict[Link, int] = {}
        self._next_fault = 0

    def is_cut(self, source: str, target: str) -> bool:
        return (source, target) in self._cut

    def cut_since_ns(self, one: str, other: str) -> int | None:
        """Since when some direction between the two is cut without a break; None if neither is."""
        return self._severed_since_ns.get((min(one, other), max(one, other)))

    def is_clogged(self, source: str, target: str) -> bool:
        return any((source, target) in links for links in self._clogs.values())

    def is_clear(self, one: str, other: str) -> bool:
        """Neither cut nor clogged in either direction: what a new connection needs."""
        return self.cut_since_ns(one, other) is None and not (
            self.is_clogged(one, other) or self.is_clogged(other, one)
        )

    def cut(self, links: Iterable[Link]) -> int:
        """Cut these directed links; the number names the fault for ``repair``."""
        return self._add(self._cuts, links)

    def clog(self, links: Iterable[Link]) -> int:
        """Hold everything on these directed links; the number names the fault for ``repair``."""
        return self._add(self._clogs, links)

    def partition(self, *groups: Sequence[str]) -> int:
        """Cut every link between hosts of different groups, in both directions."""
        return self.cut(
            (source, target)
            for group in groups
            for other in groups
            if group is not other
            for source in group
            for target in other
        )

    def repair(self, fault: int) -> None:
        """End one cut or clog. Harmless if it has ended."""
        self._cuts.pop(fault, None)
        self._clogs.pop(fault, None)
        self._changed()

    def repair_all(self) -> None:
        self._cuts.clear()
        self._clogs.clear()
        self._changed()

    def _add(self, faults: dict[int, frozenset[Link]], links: Iterable[Link]) -> int:
        self._next_fault += 1
        faults[self._next_fault] = frozenset(link for link in links if link[0] != link[1])
        self._changed()
        return self._next_fault

    def _changed(self) -> None:
        now_ns, before = self._now_ns(), self._severed_since_ns
        self._cut = frozenset[Link]().union(*self._cuts.values())
        severed = {(min(link), max(link)) for link in self._cut}
        self._severed_since_ns = {pair: before.get(pair, now_ns) for pair in severed}
        self._on_change()
