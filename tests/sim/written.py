"""What a disk must serve, kept beside it as plain values: no rows, no files, no code of ``storage``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from concoord_ray.paxos.ballot import Ballot
from concoord_ray.paxos.messages import PValue
from concoord_ray.paxos.outputs import Accepted, Joined, Promised, Record, Truncated
from concoord_ray.paxos.view import Member, View
from tests.sim.invariants import Broken


@dataclass(slots=True)
class Written:
    """What records add up to, replayed in the order in which they are given: two of these are equal if they say the
    same. What truncation drops is no part of it, whether or not it still takes space.
    """

    joined: dict[int, View] = field(default_factory=dict)
    promised: dict[int, Ballot] = field(default_factory=dict)
    accepted: dict[tuple[int, int], PValue] = field(default_factory=dict)
    truncated: Truncated = Truncated(0, 0)  # noqa: RUF009  # It is frozen.

    def and_then(self, records: Iterable[Record]) -> Written:
        """This, and these as well."""
        sum_ = replace(
            self, joined=dict(self.joined), promised=dict(self.promised), accepted=dict(self.accepted)
        )  # fmt: skip
        sum_.add(records)
        return sum_

    def add(self, records: Iterable[Record]) -> None:
        """These were written."""
        for record in records:
            if isinstance(record, Joined):
                self.joined[record.view.epoch] = record.view
            elif isinstance(record, Promised):
                self.promised[record.epoch] = record.ballot
            elif isinstance(record, Accepted):
                self.promised[record.epoch] = record.pvalue.ballot  # As the acceptor takes it, whatever came before.
                self.accepted[record.epoch, record.pvalue.slot] = record.pvalue
            else:
                self._truncate(record)

    def _truncate(self, record: Truncated) -> None:
        below = max(record.below, self.truncated.below)
        first = max(record.first_epoch, self.truncated.first_epoch)
        self.truncated = Truncated(below, first)
        self.joined = {epoch: view for epoch, view in self.joined.items() if epoch >= first}
        self.promised = {epoch: ballot for epoch, ballot in self.promised.items() if epoch >= first}
        self.accepted = {at: each for at, each in self.accepted.items() if at[0] >= first and at[1] >= below}

    def difference(self, other: Written) -> str:
        """The first few things that this has otherwise than ``other``, for reports."""
        parts: list[str] = []
        for name in ("joined", "promised", "accepted"):
            ours, theirs = getattr(self, name), getattr(other, name)
            keys = [key for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]
            parts += [f"{name} {key}: {ours.get(key)}, not {theirs.get(key)}" for key in keys[:2]]
        if self.truncated != other.truncated:
            parts.append(f"{self.truncated}, not {other.truncated}")
        return "; ".join(parts)


class ServedAsWritten:
    """An acceptor comes back with all that was written up to some commit: the last one that ended, or the one that was
    under way, as a whole. Nothing is missing, nothing is there again, nothing reads otherwise.
    """

    def check(self, by: Member, records: Sequence[Record], written: Written, under_way: Sequence[Record]) -> Written:
        """Which of the two it is."""
        served = Written().and_then(records)
        if served == written:
            return written
        and_more = written.and_then(under_way)
        if served == and_more:
            return and_more
        raise Broken(self, f"{by} came back with {served.difference(and_more if under_way else written)}")


class UndamagedIsServed:
    """Crashes and failing syncs alone are no reason to refuse what a disk has, or to take it for another's."""

    def refused(self, by: Member | None, reason: str) -> None:
        """The data of an undamaged disk were not used."""
        raise Broken(self, f"{by} has an undamaged disk, and it was refused: {reason}")
