"""Which directory a member keeps its data in: its own, or another beside it while somebody has that one.

A machine that Ray believes dead may go on, and its processes have their directories locked. On its own disk that
disturbs nobody. But where machines share a file system, or one machine has several Ray nodes, the member's next life
finds the directory locked, perhaps for good. It then begins a directory of its own, numbered from 2, as it would on
another machine's empty disk, and looks now and then whether the one that it could not have is free.

So there may be several directories of one member, of which at most one is in use by a process that matters. Which of
those that are free is used does not depend on their order: the one whose data have come furthest is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from concoord_ray.errors import StorageBusy
from concoord_ray.storage.files import is_locked

logger = logging.getLogger(__name__)

#: For how long another process may keep every directory: one that was told to end may take a moment.
_PATIENCE_S = 2.0
_LOOK_AGAIN_S = 0.1


class Opened(Protocol):
    """The data in one directory."""

    @property
    def reach(self) -> int:
        """How far they have come, -1 for not at all."""

    def close(self) -> None:
        """Let others have the directory."""


T = TypeVar("T", bound=Opened)


class Place(NamedTuple):
    """A directory of a member; the first has number 1."""

    number: int
    directory: Path


def places_of(directory: Path) -> list[Place]:
    """All directories of the member whose own is ``directory``, which may not exist yet."""
    prefix = f"{directory.name}."
    beside = directory.parent.glob(f"{prefix}*") if directory.parent.is_dir() else ()
    numbers = [(path.name.removeprefix(prefix), path) for path in beside]
    more = [Place(int(number), path) for number, path in numbers if number.isdigit()]
    return [Place(1, directory), *sorted(more)]


def taken(directory: Path, mine: Path) -> list[Path]:
    """Which of them other processes than this one, which has ``mine``, have."""
    return [place for _, place in places_of(directory) if place != mine and is_locked(place)]


def open_furthest(directory: Path, opener: Callable[[Path], T], patience_s: float = _PATIENCE_S) -> T:
    """Open the data that have come furthest of those that nobody else has, beginning a new directory if all are taken.

    Raises what ``opener`` does, but for ``StorageBusy``.
    """
    until_s = time.monotonic() + patience_s
    while (found := _open_free(places_of(directory), opener)) is None:
        if time.monotonic() >= until_s:
            fresh = directory.with_name(f"{directory.name}.{places_of(directory)[-1].number + 1}")
            logger.warning("other processes have every directory of this member; it begins with %s", fresh)
            return opener(fresh)
        time.sleep(_LOOK_AGAIN_S)
    return found


def _open_free(places: list[Place], opener: Callable[[Path], T]) -> T | None:
    """The furthest of those that are free."""
    best: T | None = None
    with ExitStack() as opened:
        for _, directory in reversed(places):  # Of those that have come as far, the latest.
            try:
                found = opener(directory)
            except StorageBusy:
                continue
            if best is None or found.reach > best.reach:
                opened.close()
                best = found
                opened.callback(best.close)
            else:
                found.close()
        opened.pop_all()
    return best
