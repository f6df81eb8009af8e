"""The directory: who is where, as far as the registries have heard.

A hint, never an authority. Every role reports itself to every registry over a connection that it keeps; a closed
connection means that the member is gone. Registries push the whole directory, which is small, to everyone connected
whenever something in it changes that others act on, and again and again though nothing does.

Whom a registry does not name may live all the same: it has just begun to listen, or has lost a connection. So members
stay known (``Hearsay``), and who is really gone does not answer there. But not for ever, since clusters that grow and
shrink have ever new nodes: a registry that has spoken for long enough knows everybody who can reach it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Union

import msgspec

from concoord_ray.net.identity import Address
from concoord_ray.paxos.view import Member, Role, View


class MemberReport(msgspec.Struct, frozen=True, array_like=True):
    """What a member says of itself."""

    member: Member
    address: Address
    node_id: str
    pid: int
    #: The newest view that it knows, None before the first.
    view: View | None = None
    is_leader: bool = False
    #: Replicas: every slot below this one is applied. Acceptors: every slot below it was accepted or passed by.
    applied_slot: int = 0
    #: Replicas: what user code is executing for longer than a moment, as "object.method", else empty.
    executing: str = ""
    #: Replicas with storage: the effects of every slot below this one are on disk.
    durable_slot: int = 0
    #: Replicas: why they answer no call any more, since the states of all have diverged; else empty.
    halted: str = ""


class Report(msgspec.Struct, frozen=True, array_like=True, tag=40, tag_field="type"):
    """Member to registry: this is me, now."""

    report: MemberReport


class Directory(msgspec.Struct, frozen=True, array_like=True, tag=41, tag_field="type"):
    """Registry to everyone connected: every member whose connection is open."""

    members: tuple[MemberReport, ...]

    def members_of(self, role: Role) -> dict[int, Member]:
        """Who lives at each index of a role."""
        return {r.member.index: r.member for r in self.members if r.member.role is role}

    def find(self, role: Role, index: int) -> MemberReport | None:
        """The member that now lives at an index of a role."""
        return next((r for r in self.members if r.member.role is role and r.member.index == index), None)

    def newest_view(self) -> View | None:
        """The newest view that any member knows, None if none knows of any."""
        views = [report.view for report in self.members if report.view is not None]
        return max(views, key=lambda view: view.epoch, default=None)


@dataclass(slots=True)
class _Word:
    """What one registry has told: without a gap, since when, and when last."""

    since_s: float
    until_s: float


class Hearsay:
    """What one process has heard from all registries together. ``directory`` has the last that was heard of each index.

    **Whom it forgets**: a member that for ``forget_after_s`` no registry has named, while one at least spoke all that
    time without a gap of ``silent_after_s``. Whoever lives has told that registry of itself by then, if it can reach
    it. A registry that has just begun, has another life, stood still, or was cut off from us, or we from it, starts
    that time anew; and while all are away (Ray does not start them while its GCS is away) nobody is forgotten.

    Whom it keeps all the same: who is connected to us, which lives; whom the newest view names, which the others wait
    for (acceptors by incarnation, replicas by index); and registries, of which there are a fixed number, and by which a
    forked child finds the rest. Who was forgotten wrongly is back as soon as a registry names it.
    """

    def __init__(self, silent_after_s: float, forget_after_s: float) -> None:
        self.directory = Directory(())
        self._silent_after_s = silent_after_s
        self._forget_after_s = forget_after_s
        self._words: dict[Member, _Word] = {}
        #: When each member that is known was last named, or connected to us.
        self._known_at_s: dict[Member, float] = {}

    def told(self, registry: Member, told: Directory, now_s: float, is_linked: Callable[[Member], bool]) -> None:
        """A registry's push. ``is_linked`` says whether a member is connected to us."""
        self._words = {
            other: word
            for other, word in self._words.items()
            if other == registry or now_s - word.until_s <= self._forget_after_s
        }
        word = self._words.get(registry)
        if word is None or now_s - word.until_s > self._silent_after_s:
            word = self._words[registry] = _Word(now_s, now_s)
        word.until_s = now_s
        merged = {(r.member.role, r.member.index): r for r in (*self.directory.members, *told.members)}
        directory = Directory(tuple(merged.values()))
        named = {report.member for report in told.members}
        members = [report.member for report in directory.members]
        self._known_at_s = {
            member: now_s if member in named or is_linked(member) else self._known_at_s.get(member, now_s)
            for member in members
        }
        if now_s - word.since_s >= self._forget_after_s:
            directory = self._without_the_forgotten(directory, now_s)
        self.directory = directory

    def _without_the_forgotten(self, directory: Directory, now_s: float) -> Directory:
        view = directory.newest_view()
        kept = [
            report
            for report in directory.members
            if now_s - self._known_at_s[report.member] < self._forget_after_s or _is_needed(report.member, view)
        ]
        return directory if len(kept) == len(directory.members) else Directory(tuple(kept))


def _is_needed(member: Member, view: View | None) -> bool:
    if member.role is Role.REGISTRY:
        return True
    return view is not None and (
        member in view.acceptors or (member.role is Role.REPLICA and member.index in view.replicas)
    )


DirectoryMessage = Union[Report, Directory]
