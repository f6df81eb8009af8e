"""What roles do about directories that other processes have, see ``storage.places``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from concoord_ray.errors import StorageBusy
from concoord_ray.roles.node import Node, exit_broken
from concoord_ray.storage.files import is_locked
from concoord_ray.storage.places import taken

_LOOK_EVERY_S = 1.0


async def begin_again_if_free(node: Node, mine: Path, has_begun: Callable[[], bool]) -> None:
    """Begin again as soon as a directory is free that this member could not have, unless it has begun with ``mine``.

    A member with nothing is taken in by a majority of others. If there is none, because they have all begun with
    nothing, then what they need is in the directories that they could not have.
    """
    busy = await asyncio.to_thread(taken, node.boot.data_directory(), mine)
    while busy and not has_begun():
        await asyncio.sleep(_LOOK_EVERY_S)
        free = [directory for directory in busy if not await asyncio.to_thread(is_locked, directory)]
        if free and not has_begun():
            exit_broken(node.me, StorageBusy(f"{free[0]} was another process's and is free now: begin again with it."))
