"""Processes that are seen to die: a gateway watches the clients of its own node.

A process that is killed says no more, and what it held would be gone for a session's TTL. But the kernel knows at once:
a pidfd becomes readable when its process ends. So each client tells its node's gateway who it is, and the gateway ends
the sessions of those that it sees die.

Invariant: only what is certain is acted on. A process is watched if its start time is the one that it told, so that
neither a pid that was used again nor one of another pid namespace is taken for it; if it cannot be watched, its session
ends with its TTL.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

logger = logging.getLogger(__name__)


class Watch(msgspec.Struct, frozen=True, array_like=True, tag=42, tag_field="type"):
    """Client to the gateway of its node: this is my process, and my session now. Replaces what it said before."""

    session: int
    pid: int
    #: Its start, in clock ticks since the machine's own.
    started: int


class LeaseOver(msgspec.Struct, frozen=True, array_like=True, tag=43, tag_field="type"):
    """Client to the gateway of its node: I cannot keep my lease, so whoever awaits the loss of a grant must be told."""

    session: int


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did; None if there is none, or no way to know."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])


class _Watched(NamedTuple):
    descriptor: int
    watch: Watch


class Watches:
    """The processes that one gateway watches. ``died`` is called with the session of each that dies."""

    def __init__(self, limit: int, died: Callable[[int], None]) -> None:
        self._limit = limit
        self._died = died
        self._watched: dict[int, _Watched] = {}

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, watch: Watch) -> None:
        """Watch a process for its session, instead of an earlier one of the same process."""
        known = self._watched.get(watch.pid)
        if known is not None and known.watch.started == watch.started:
            self._watched[watch.pid] = known._replace(watch=watch)
            return
        if not hasattr(os, "pidfd_open") or (known is None and len(self._watched) >= self._limit):
            return
        try:
            descriptor = os.pidfd_open(watch.pid)
        except OSError as error:
            logger.info("process %d cannot be watched (%s); its session ends with its TTL", watch.pid, error)
            return
        if start_time(watch.pid) != watch.started:
            os.close(descriptor)
            return
        if known is not None:  # It has died, and its pid is used again already.
            self._ended(watch.pid)
        self._watched[watch.pid] = _Watched(descriptor, watch)
        asyncio.get_running_loop().add_reader(descriptor, self._ended, watch.pid)

    def close(self) -> None:
        """Watch nobody any more."""
        for watched in self._watched.values():
            asyncio.get_running_loop().remove_reader(watched.descriptor)
            os.close(watched.descriptor)
        self._watched.clear()

    def _ended(self, pid: int) -> None:
        descriptor, watch = self._watched.pop(pid)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        logger.info("process %d has died; its session %d ends", pid, watch.session)
        self._died(watch.session)
