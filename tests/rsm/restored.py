"""A log whose second executor is restored from snapshots of the first."""

from __future__ import annotations

from dataclasses import replace

from concoord_ray.rsm.calls import Applied
from concoord_ray.rsm.command import Batch, Entry, Reply
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.wire import encode_message
from tests.rsm.log import Log, describe


class RestoredLog(Log):
    """``restore`` puts what is restored in place of the second executor, which must go on as the first one does."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[bytes] = []

    def decide(self, *entries: Entry) -> list[Reply]:
        batch = encode_message(Batch(self.time_ns, self.time_ns, entries))
        outcomes = []
        for executor in self.executors:
            executor.apply(len(self.batches), batch)
            outcomes.append(executor.take_applied())
        self.batches.append(batch)
        self.applied, other = outcomes
        assert told(self.applied.replies) == told(other.replies)
        assert replace(self.applied, replies=[]) == replace(other, replies=[])
        return self.applied.replies

    def restore(self) -> Applied:
        self.executors[1] = Executor("here")
        self.executors[1].restore(self.executors[0].snapshot())
        return self.executors[1].take_applied()


def told(replies: list[Reply]) -> list[tuple[int, int, str]]:
    """Not as bytes: a traceback is not kept, and sharing decides how a value is pickled."""
    return [(reply.session, reply.seq, describe(reply)) for reply in replies]
