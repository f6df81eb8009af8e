"""Known mistakes about views, truncation and self-repair; see ``mutants``."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import msgspec

from concoord_ray.paxos.acceptor import Acceptor
from concoord_ray.paxos.leader import Leader
from concoord_ray.paxos.learner import Learner
from concoord_ray.paxos.membership import Membership, is_reached
from concoord_ray.paxos.muster import Muster
from concoord_ray.paxos.replica import Replica
from concoord_ray.paxos.truncation import Truncation
from concoord_ray.paxos.view import View
from concoord_ray.rsm.schedule import SnapshotSchedule
from tests.sim.mutants import Mutant, replacing
from tests.sim.scenario import Kind

_SAFETY = frozenset({"ChosenByMajority", "OneValuePerSlot", "OneLineage", "Diverged", "PromisesNeverFall"})


def _sees_no_truncation(original: Any) -> Any:
    def receive(self: Any, source: Any, message: Any, *more: Any) -> Any:
        return original(self, source, msgspec.structs.replace(message, truncated_below=0), *more)

    return receive


def _joins_dropped(original: Any) -> Any:
    def join(self: Acceptor, view: View) -> bool:
        self._first_epoch = 0
        return bool(original(self, view))

    return join


def _joins_any(self: Acceptor, view: View) -> bool:
    if view.epoch not in self._epochs:
        self._adopt(view)
    return True


def _keeps_quorum(original: Any) -> Any:
    def leader_of(self: Replica, view: View) -> Leader:
        first = getattr(self, "first_view", view)
        self.first_view = first  # type: ignore[attr-defined]
        leader: Leader = original(self, view)
        leader.view = msgspec.structs.replace(view, acceptors=view.acceptors[: len(first.acceptors)])
        return leader

    return leader_of


def _enters_when_proposed(original: Any) -> Any:
    def reconfigure(self: Replica, now_s: float) -> None:
        original(self, now_s)
        stop_slot = self.leader.stop_slot
        commander = None if stop_slot is None else self.leader._commanders.get(stop_slot)
        if commander is not None and stop_slot is not None:
            self._hand_on(self.learner.learn(stop_slot, commander.value, is_final=True), now_s)

    return reconfigure


def _no_change(self: Membership, view: View, *_: Any) -> Any:
    return view.acceptors, view.replicas


def _is_unheard(self: Truncation, index: int) -> bool:
    return self.progress_of(index) is None


def _counts_at_once(original: Any) -> Any:
    def begin(self: SnapshotSchedule, slot: int, learner: Learner) -> bool:
        is_begun = bool(original(self, slot, learner))
        if is_begun:
            self.durable_slot = slot
        return is_begun

    return begin


def _only_when_grown(original: Any) -> Any:
    def is_due(self: SnapshotSchedule, replica: Replica) -> bool:
        return self._log_bytes >= max(self._last_bytes, self._least_bytes) and bool(original(self, replica))

    return is_due


def _whatever_the_disks_hold(original: Any) -> Any:
    return lambda size, slot, standings, config: original(
        size, slot, standings, msgspec.structs.replace(config, storage="")
    )


VIEWS = (
    Mutant(
        "phase 1 counts acceptors that have dropped what it asks for",
        Kind.PROTOCOL,
        lambda: _both(
            patch.object(Leader, "receive_p1b", _sees_no_truncation(Leader.receive_p1b)),
            patch.object(Replica, "_receive_pong", _sees_no_truncation(Replica._receive_pong)),
        ),
        _SAFETY | {"AssertionError"},
        500,
    ),
    Mutant(
        "the log is dropped below what the leader alone has executed",
        Kind.PROTOCOL,
        replacing(Truncation, "_safe_below", lambda self, view, log_bytes: self.applied_slot),
        frozenset({"TruncatedIsApplied"}),
        20,
    ),
    Mutant(
        "nothing is ever dropped",
        Kind.PROTOCOL,
        replacing(Truncation, "_safe_below", lambda self, view, log_bytes: 0),
        frozenset({"Liveness"}),
        20,
    ),
    Mutant(
        "an acceptor takes part in views that do not name it",
        Kind.PROTOCOL,
        replacing(Acceptor, "join", _joins_any),
        frozenset({"NoVoteWithoutView"}),
        20,
    ),
    Mutant(
        "dead acceptors are never replaced",
        Kind.PROTOCOL,
        replacing(Membership, "wanted", _no_change),
        frozenset({"Liveness"}),
        20,
    ),
    Mutant(
        "a larger view keeps the majority of the first",
        Kind.PROTOCOL,
        lambda: patch.object(Replica, "_leader_of", _keeps_quorum(Replica._leader_of)),
        _SAFETY,
        200,
    ),
    Mutant(
        "a view is entered when it is proposed",
        Kind.PROTOCOL,
        lambda: patch.object(Replica, "_reconfigure", _enters_when_proposed(Replica._reconfigure)),
        _SAFETY,
        20,
    ),
    Mutant(
        "a leader leaves out whoever has not told it anything yet",
        Kind.PROTOCOL,
        lambda: _both(
            patch.object(Truncation, "is_away", _is_unheard),
            patch.object(Muster, "_awaits_word", lambda self: False),
        ),
        frozenset({"NobodyIsLeftOutUnasked"}),
        200,
    ),
    Mutant(
        "an acceptor joins an epoch again that it has dropped",
        Kind.PROTOCOL,
        lambda: patch.object(Acceptor, "join", _joins_dropped(Acceptor.join)),
        _SAFETY | {"AnswersAreDurable"},
        2000,
    ),
)

DISKS = (
    Mutant(
        "the log is dropped whatever the disks hold",
        Kind.PROTOCOL,
        replacing(Truncation, "durable_below", lambda self, view: self.applied_slot),
        frozenset({"EverythingMayDie"}),
        20,
    ),
    Mutant(
        "the log is dropped for what one disk holds",
        Kind.PROTOCOL,
        lambda: patch("concoord_ray.paxos.truncation.COPIES", 1),
        frozenset({"EverythingMayDie"}),
        100,
    ),
    Mutant(
        "a view change follows another before any disk holds what was before",
        Kind.PROTOCOL,
        replacing(Muster, "is_complete", lambda self, view, now_s: True),
        frozenset({"EverythingMayDie"}),
        300,
    ),
    Mutant(
        "a snapshot counts as soon as it is begun",
        Kind.PROTOCOL,
        lambda: patch.object(SnapshotSchedule, "begin", _counts_at_once(SnapshotSchedule.begin)),
        frozenset({"EverythingMayDie", "Liveness"}),
        300,
    ),
    Mutant(
        "no snapshot is written when an epoch begins",
        Kind.PROTOCOL,
        lambda: patch.object(SnapshotSchedule, "is_due", _only_when_grown(SnapshotSchedule.is_due)),
        frozenset({"Liveness"}),
        100,
    ),
    Mutant(
        "the next snapshot waits until the log is as long as the last one was, however full it is",
        Kind.FULL,
        lambda: patch("concoord_ray.rsm.schedule._PARTS_OF_FULL_LOG", 1e-9),
        frozenset({"Liveness"}),
        100,
    ),
    Mutant(
        "members that have left are ended before the disks hold what was before",
        Kind.PROTOCOL,
        lambda: patch("tests.sim.cluster.is_reached", _whatever_the_disks_hold(is_reached)),
        frozenset({"EverythingMayDie"}),
        100,
    ),
)


class _both:  # noqa: N801  # Used as a function: a context manager of two.
    def __init__(self, one: Any, other: Any) -> None:
        self._patches = (one, other)

    def __enter__(self) -> None:
        for each in self._patches:
            each.start()

    def __exit__(self, *_: object) -> None:
        for each in self._patches:
            each.stop()
