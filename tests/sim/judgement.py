"""The judgement at the end of a full-stack run: what the clients saw must be explained by one order of events, and
what is left must be what was acknowledged.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping
from itertools import pairwise

from concoord_ray.threadingobject.inspection import Inspection
from tests.sim import models
from tests.sim.history import Operation
from tests.sim.invariants import Broken
from tests.sim.linearizability import check
from tests.sim.models import Model
from tests.sim.search import Undecided
from tests.sim.threading_workload import CAPACITY
from tests.sim.workload import PERMITS, Record

_MODELS: dict[str, Model] = {
    "counter": models.Counter(),
    "register": models.Register(),
    "lock": models.Mutex(tokens=True),
    "semaphore": models.Semaphore(permits=PERMITS),
    "rlock": models.Mutex(tokens=True),
    "bounded": models.Semaphore(permits=PERMITS, bounded=True),
    "event": models.Event(),
    "buffer": models.Buffer(CAPACITY),
}


class Linearizable:
    """Per object, some order of the calls explains every answer (the search is bounded; ``undecided`` counts)."""

    def __init__(self, max_configurations: int = 60_000) -> None:
        self.undecided: Tally[str] = Tally()
        self._max_configurations = max_configurations

    def check(self, operations: list[Operation]) -> None:
        by_object: dict[str, list[Operation]] = {}
        for operation in operations:
            by_object.setdefault(operation.object, []).append(operation)
        for name, own in by_object.items():
            model = models.Name() if name.startswith("name ") else _MODELS.get(name)
            if model is None:
                continue
            try:
                violations = check(own, model, self._max_configurations)
            except Undecided:
                self.undecided[name] += 1
            else:
                if violations:
                    raise Broken(self, "\n\n".join(map(str, violations)))


class MutualExclusion:
    """Nobody is granted the lock while another holds it; tokens grow in the order of the grants."""

    def __init__(self, lock: str = "lock") -> None:
        self._lock = lock

    def check(self, record: Record, ended_sessions_ns: Mapping[int, int]) -> None:
        grants = [
            each for each in record.acquisitions.values()
            if each.object == self._lock and each.grant is not None and each.granted_ns is not None
        ]  # fmt: skip
        grants.sort(key=lambda each: each.grant or 0)
        for earlier, later in pairwise(grants):
            assert later.granted_ns is not None
            if earlier.grant == later.grant:
                raise Broken(self, f"{earlier.process} and {later.process} were given the same token {later.grant}")
            ends = (earlier.released_ns, ended_sessions_ns.get(earlier.session))
            if not any(end_ns is not None and end_ns <= later.granted_ns for end_ns in ends):
                raise Broken(
                    self,
                    f"{later.process} was granted token {later.grant} at {later.granted_ns} ns, while "
                    f"{earlier.process} held the lock with token {earlier.grant} since {earlier.granted_ns} ns",
                )


class NothingIsLeftHeld:
    """Once everyone has released and the dead have expired, the lock is free and all permits are there."""

    def check(self, operations: list[Operation]) -> None:
        for operation in operations:
            if operation.object == "lock state" and operation.op == "locked" and operation.result is not False:
                raise Broken(self, f"the lock is still held: {operation}")
            if operation.object == "semaphore state" and operation.result != f"<DSemaphore count={PERMITS}>":
                raise Broken(self, f"permits are missing or too many: {operation}")
            if operation.op == "inspect" and isinstance(operation.result, Inspection):
                seen = operation.result
                if seen.holders or seen.waiting or seen.awaiting_loss:
                    raise Broken(self, f"something is held, or somebody waits: {operation}")


class RoundsAreComplete:
    """Of two parties that pass a barrier one is told 0 and the other 1, unless an answer was lost."""

    def check(self, operations: list[Operation]) -> None:
        waits = [each for each in operations if each.object == "barrier" and each.op == "wait"]
        told = Tally(each.result for each in waits if each.result in (0, 1))
        unanswered = sum(each.is_open for each in waits)
        if abs(told[0] - told[1]) > unanswered:
            raise Broken(self, f"{told[0]} were told 0 and {told[1]} were told 1; {unanswered} answers are missing")


class CalmSeasAreSmooth:
    """Where no fault strikes, no call fails and there is one election."""

    def check(self, record: Record, elections: int) -> None:
        failures = {what: count for what, count in record.lost.items() if what != "withdrawn"}
        if failures and "unknown" in failures:
            raise Broken(self, f"calls failed though nothing went wrong: {failures}")
        if elections != 1:
            raise Broken(self, f"{elections} elections though nothing went wrong")
