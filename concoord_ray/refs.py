"""Notices that calls on the ``.remote()`` path have ended, so that their replies can be acknowledged.

The gateway cannot: Ray may run its call again after it has answered. Only this process knows that it has the value.

A call that cannot wait is looked at when later calls are made, in batches, the more seldom the longer it takes: no
thread of ours ever touches Ray, whose core ends the whole process if it is touched while ``ray.shutdown`` takes it
down. A call that may wait for hours is watched through its future, which also tells when the user cancelled it: Ray
hides from the gateway whether a cancelled call was granted after all, so this process withdraws it in the log.

Only so many calls of a process may be unfinished (``roles.window``). Who makes another waits for some of the oldest,
unless it runs on an event loop, which must not be held up, or makes a call that may wait itself: then it is refused.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import threading
import time
from concurrent.futures import Future
from typing import Any, NamedTuple

import ray

from concoord_ray.client import Client
from concoord_ray.errors import OutcomeUnknown, Overloaded, QuorumLost
from concoord_ray.rsm.command import Entry

logger = logging.getLogger(__name__)

_FIRST_LOOK_S = 0.1
_LAST_LOOK_S = 10.0
_LOOK_AT_ONCE = 1000


#: How many ends of calls are waited for at a time, and for how long at most.
_ENDS_AT_ONCE = 100
_WAIT_S = 1.0

#: How a call ends whose grant, if it has one, the caller does not know of: it must be given back.
_UNSEEN = (ray.exceptions.TaskCancelledError, ray.exceptions.RayActorError, OutcomeUnknown, QuorumLost, Overloaded)


class _Look(NamedTuple):
    at_s: float
    order: int
    after_s: float
    ref: Any
    client: Client
    entry: Entry


class RefWatcher:
    """The unfinished calls of a process. Thread-safe."""

    def __init__(self) -> None:
        self._looks: list[_Look] = []
        self._orders = itertools.count()
        self._lock = threading.Lock()
        self._next_look_s = 0.0

    def watch(self, ref: Any, client: Client, entry: Entry, *, may_park: bool, timeout_s: float | None) -> None:
        """Acknowledge the entry when the call has ended; withdraw it if it was cancelled, or takes too long."""
        if timeout_s is not None:
            client.time_out(entry, timeout_s)
        size_bytes = len(entry.command)
        client.travelling.of(may_park=may_park).enter(size_bytes)
        if may_park:
            ref.future().add_done_callback(lambda future: _ended(future, client, entry))
            return
        now_s = time.monotonic()
        with self._lock:
            self._push(ref, client, entry, now_s, _FIRST_LOOK_S)
            due = self._take_due(now_s) if now_s >= self._next_look_s else []
        if due:
            self._look(due, now_s)

    def _push(self, ref: Any, client: Client, entry: Entry, now_s: float, after_s: float) -> None:
        heapq.heappush(self._looks, _Look(now_s + after_s, next(self._orders), after_s, ref, client, entry))

    def _take_due(self, now_s: float) -> list[_Look]:
        due: list[_Look] = []
        while self._looks and self._looks[0].at_s <= now_s and len(due) < _LOOK_AT_ONCE:
            look = heapq.heappop(self._looks)
            if not look.client.is_closed:  # Otherwise its session is gone, and its ref of another connection to Ray.
                due.append(look)
        if len(due) < _LOOK_AT_ONCE:  # Else the next call goes on.
            self._next_look_s = now_s + _FIRST_LOOK_S
        return due

    def make_room(self, client: Client, *, may_park: bool) -> None:
        """Wait until the process may make another call of the client's ensemble. Raises Overloaded if it may not."""
        windows = client.travelling
        if may_park:
            windows.check(may_park=True)
        elif windows.plain.is_full:
            patience_s = 0.0 if asyncio._get_running_loop() is not None else client.boot.config.quorum_timeout_s
            until_s = time.monotonic() + patience_s
            self._await_some(0.0)
            while windows.plain.is_full:
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    raise windows.refusal(may_park=False)
                self._await_some(min(left_s, _WAIT_S))

    def _await_some(self, timeout_s: float) -> None:
        """Wait until some of the oldest calls have ended."""
        with self._lock:
            looks = sorted(self._looks, key=lambda look: look.order)
            oldest, self._looks = looks[:_LOOK_AT_ONCE], looks[_LOOK_AT_ONCE:]
            heapq.heapify(self._looks)
        if not oldest:  # Other threads look at them.
            time.sleep(min(timeout_s, _FIRST_LOOK_S))
            return
        self._look(oldest, time.monotonic(), min(len(oldest), _ENDS_AT_ONCE), timeout_s)

    def _look(self, due: list[_Look], now_s: float, count: int | None = None, timeout_s: float = 0.0) -> None:
        refs = [look.ref for look in due]
        count = len(refs) if count is None else count
        try:
            ready = set(ray.wait(refs, num_returns=count, timeout=timeout_s, fetch_local=False)[0])
        except BaseException:  # Ctrl-C: the calls are as unfinished as before.
            with self._lock:
                for look in due:
                    if not look.client.is_closed:
                        heapq.heappush(self._looks, look)
            raise
        ended: dict[Client, list[Entry]] = {}
        with self._lock:
            for look in due:
                if look.ref in ready:
                    look.client.travelling.plain.leave(len(look.entry.command))
                    ended.setdefault(look.client, []).append(look.entry)
                else:
                    self._push(look.ref, look.client, look.entry, now_s, min(2 * look.after_s, _LAST_LOOK_S))
        for client, entries in ended.items():
            client.acknowledge(entries)


def _ended(future: Future[Any], client: Client, entry: Entry) -> None:
    client.travelling.parking.leave(len(entry.command))
    if isinstance(future.exception(), _UNSEEN):
        client.cancel(entry)
    else:
        client.acknowledge([entry])


WATCHER = RefWatcher()
