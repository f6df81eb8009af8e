"""One commit for everything that came while the one before was under way.

Commits run on a thread of their own, since an fsync would hold the event loop. What is to happen only after a commit
(sending what the records say) is given along as ``release`` and is called on the loop, **in the order of submission,
after all records submitted before it and with it are durable** (PROTOCOL.md, rule 21).

The first error ends it: ``failed`` is called, once, and nothing is ever released again. Who answered after a failed
commit would vouch for what may be lost.

What waits is not bounded here. Its caller bounds it by what it accepts unanswered: an acceptor by the window of slots
that a leader may have in flight.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple

from concoord_ray.paxos.outputs import Record


class _Submission(NamedTuple):
    records: Sequence[Record]
    release: Callable[[], None]


class GroupCommit:
    """Puts a storage's ``append`` off the event loop. Its methods are called on the loop."""

    def __init__(
        self,
        append: Callable[[Sequence[Record]], None],
        loop: asyncio.AbstractEventLoop,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._append = append
        self._loop = loop
        self._failed = failed
        #: Of submissions, and a None behind the last.
        self._queue: SimpleQueue[_Submission | None] = SimpleQueue()
        self._unreleased = 0
        self._is_broken = False
        self._is_closed = False
        self._ended = asyncio.Event()
        threading.Thread(target=self._run, name="group-commit", daemon=True).start()

    def submit(self, records: Sequence[Record], release: Callable[[], None]) -> None:
        """Make records durable, then call ``release`` on the loop.

        Without records it is called when its turn comes: at once, before this returns, if nothing is under way.
        """
        if self._is_closed:
            raise RuntimeError("submit() after close(): these records would never become durable.")
        if self._is_broken:
            return
        if not records and not self._unreleased:
            release()
            return
        self._unreleased += 1
        self._queue.put(_Submission(records, release))

    async def close(self) -> None:
        """Wait until everything submitted is durable and released, or has failed, and end the thread."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.put(None)
        await self._ended.wait()

    def _run(self) -> None:
        """The thread."""
        is_last = False
        while not is_last:
            group, is_last = self._next_group()
            records = [record for submission in group for record in submission.records]
            try:
                if records:
                    self._append(records)
            except BaseException as error:
                self._loop.call_soon_threadsafe(self._break, error)
                break
            self._loop.call_soon_threadsafe(self._release, group)
        self._loop.call_soon_threadsafe(self._ended.set)

    def _next_group(self) -> tuple[list[_Submission], bool]:
        """Everything that was submitted since the last commit, waiting for something; and whether it is the last."""
        group = []
        submission = self._queue.get()
        while submission is not None:
            group.append(submission)
            try:
                submission = self._queue.get_nowait()
            except Empty:
                return group, False
        return group, True

    def _release(self, group: Sequence[_Submission]) -> None:
        for submission in group:
            if self._is_broken:
                return
            try:
                submission.release()
            except Exception as error:  # A half sent step is not to be followed by others.
                self._break(error)
            self._unreleased -= 1

    def _break(self, error: BaseException) -> None:
        if not self._is_broken:
            self._is_broken = True
            self._failed(error)
