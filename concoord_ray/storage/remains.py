"""What is left of one ensemble on all nodes together: who has to be started where, and whether that is enough.

Who is started. Every index that there are data of, and every index of the newest view. That may be more than the
ensemble needs (it was being made smaller when everything stopped) or more than its view names (it was being made
larger, or a replica was away). What it is to be is in its log, which nobody can read before it runs; members too many
disturb nobody, while one too few may be the one without which nothing goes on.

Where. Acceptor and replica of one index share a bundle, so they come to one node. Usually their data lie together. If
not, the index was moved from one node to another, and the acceptor's node is chosen: votes cannot be made up for, while
a replica gets what it misses from the others. Unless there are no others: if without the replica's snapshot nobody has
the state that the acceptors have dropped the log for, and a majority of them is there without this one, its node is
chosen. An acceptor that never took part in anything has no votes, and is no reason to be anywhere.

Which of two memories of one acceptor. Of two incarnations, the one that the newest view names; else the one that came
to the later epoch. Of two copies of one incarnation (somebody has copied the directory), the one with more commits: the
other has forgotten promises that it gave.

Whether it is enough. Replicas begin with the newest snapshot that is there, at some slot, and follow the log from the
view that this slot is in to the newest, so a majority of each of these views must be there, of acceptors that can still
show what they accepted from that slot on (which is how a leader counts them, too). A view that is not known to be
joined, but whose stop-sign some acceptor has accepted, counts too: the next leader may have to make it hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from concoord_ray.paxos.membership import Size
from concoord_ray.paxos.view import Member, Role, View
from concoord_ray.storage.birth import Birth
from concoord_ray.storage.survey import NO_SNAPSHOT, Kept, Votes

#: What a node has, by the node's id.
Finds = Sequence[tuple[str, Kept]]


class Remains(NamedTuple):
    """What to start an ensemble with."""

    size: Size
    #: By index, the node that has its data.
    nodes: dict[int, str]
    #: What is missing without which nothing would go on; empty if nothing is.
    lack: str


def put_together(birth: Birth, finds: Finds) -> Remains:
    """Make one ensemble of what the nodes have of it."""
    pieces = _Pieces(birth, finds)
    nodes = pieces.nodes()
    lack = pieces.lack(nodes)
    for index, node in pieces.displaced_replicas(nodes):
        other = {**nodes, index: node}
        if lack and not pieces.lack(other):
            nodes, lack = other, ""
    return Remains(pieces.size(nodes), nodes, lack)


def is_complete(kept: Sequence[Kept]) -> bool:
    """Whether of one ensemble all data are here that any node is known to have, usable or not.

    As far as the acceptors know: every member of the newest view that any of them has joined.
    """
    joined = [view for each in kept for votes in _all_votes(each) for view in votes.joined]
    if not joined:
        return False
    newest = max(joined, key=lambda view: view.epoch)
    acceptors = {index for each in kept for index in each.acceptors}
    replicas = {index for each in kept for index in each.replicas}
    return {member.index for member in newest.acceptors} <= acceptors and {*newest.replicas} <= replicas


class _Pieces:
    """What there is of everything."""

    def __init__(self, birth: Birth, finds: Finds) -> None:
        joined = [view for _, kept in finds for votes in _all_votes(kept) for view in votes.joined]
        newest = max([birth.view, *joined], key=lambda view: view.epoch)
        proposals = [each for _, kept in finds for votes in _all_votes(kept) for each in votes.proposed]
        following = [each for each in proposals if each.view.epoch > newest.epoch]
        if following:
            newest = max(following, key=lambda each: (each.view.epoch, each.ballot)).view
        self._newest = newest
        self._views = {view.epoch: view for view in (birth.view, *joined, newest)}
        #: By index, on which nodes there is how much of it.
        self._votes: dict[int, list[tuple[str, Votes | None]]] = {}
        self._snapshots: dict[int, list[tuple[str, int]]] = {}
        for node, kept in sorted(finds, key=lambda find: find[0]):
            for index, votes in kept.acceptors.items():
                self._votes.setdefault(index, []).append((node, votes))
            for index, slot in kept.replicas.items():
                self._snapshots.setdefault(index, []).append((node, slot))

    def nodes(self) -> dict[int, str]:
        """Where each index is best off by itself."""
        found = {}
        for index in sorted({*self._votes, *self._snapshots}):
            node = _share(index, [(self._worth(index, votes), node) for node, votes in self._votes.get(index, [])])
            replica = _share(index, [((slot,), node) for node, slot in self._snapshots.get(index, [])])
            has_votes = any(self._worth(index, votes)[1] >= 0 for _, votes in self._votes.get(index, []))
            chosen = node if has_votes else replica or node
            if chosen is not None:
                found[index] = chosen
        return found

    def _worth(self, index: int, votes: Votes | None) -> tuple[int, ...]:
        """How one memory compares with others of its index; first of all, whether it is one."""
        if votes is None:
            return (0, -1)
        is_named = Member(Role.ACCEPTOR, index, votes.incarnation) in self._newest.acceptors
        return (1, self._newest.epoch if is_named else votes.epoch, votes.commit)

    def displaced_replicas(self, nodes: Mapping[int, str]) -> list[tuple[int, str]]:
        """Index and node of snapshots that are elsewhere than the index is to be, the newest first."""
        elsewhere = [
            (slot, index, node)
            for index, snapshots in self._snapshots.items()
            for node, slot in snapshots
            if slot != NO_SNAPSHOT and nodes.get(index) != node
        ]
        return [(index, node) for _, index, node in sorted(elsewhere, reverse=True)]

    def lack(self, nodes: Mapping[int, str]) -> str:
        """What is missing if every index comes to its node."""
        begin = self._begin(nodes)
        needed = self._needed(begin)
        if not needed:
            first = min(view.first_slot for view in self._views.values())
            return f"the log begins at slot {first}, and no replica's snapshot of what was before is there"
        lacks = (self._lack_of(view, nodes, max(begin, view.first_slot)) for view in needed)
        return next(filter(None, lacks), "")

    def _begin(self, nodes: Mapping[int, str]) -> int:
        """The slot of the newest snapshot that is where its replica comes to."""
        slots = [slot for index, found in self._snapshots.items() for node, slot in found if nodes.get(index) == node]
        return max(slots, default=NO_SNAPSHOT)

    def _needed(self, begin: int) -> list[View]:
        """The views that the log goes through from this slot on; none if what was before it is missing."""
        views = sorted(self._views.values(), key=lambda view: view.epoch)
        past = [view for view in views if view.first_slot <= max(begin, 0)]
        return [view for view in views if past and view.epoch >= past[-1].epoch]

    def _lack_of(self, view: View, nodes: Mapping[int, str], from_slot: int) -> str:
        there, truncated, missing = [], [], []
        for member in view.acceptors:
            node = nodes.get(member.index)
            best = max(
                (votes for where, votes in self._votes.get(member.index, []) if where == node and votes is not None),
                key=lambda votes: self._worth(member.index, votes),
                default=None,
            )
            if best is None or best.incarnation != member.incarnation:
                missing.append(member.index)
            elif best.dropped_below > from_slot:
                truncated.append((member.index, best.dropped_below))
            else:
                there.append(member.index)
        if len(there) >= view.quorum:
            return ""
        all_of_them = _listed(member.index for member in view.acceptors)
        text = f"epoch {view.epoch} needs {view.quorum} of its acceptors {all_of_them}"
        if missing:
            text += f"; the data of {_listed(missing)} are not there"
        for index, below in truncated:
            text += f"; {index} has dropped the log below slot {below}, and no replica's snapshot goes so far"
        return text

    def size(self, nodes: Mapping[int, str]) -> Size:
        """How many of each have to be started so that all of them are."""
        views = self._needed(self._begin(nodes)) or [self._newest]
        acceptors = {*self._votes, *(member.index for view in views for member in view.acceptors)}
        replicas = {*self._snapshots, *self._newest.replicas}
        return Size(max(acceptors) + 1, max(replicas) + 1)


def _all_votes(kept: Kept) -> list[Votes]:
    return [votes for votes in kept.acceptors.values() if votes is not None]


def _share(index: int, found: list[tuple[tuple[int, ...], str]]) -> str | None:
    """The node with the best of it; of several that are as good (they share a disk), not the same for every index."""
    best = max((worth for worth, _ in found), default=None)
    nodes = [node for worth, node in found if worth == best]
    return nodes[index % len(nodes)] if nodes else None


def _listed(indices: Iterable[int]) -> str:
    return ", ".join(map(str, indices))
