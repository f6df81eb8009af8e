"""What a node's disk has of an ensemble: asked of every node when an ensemble is started that may have been before."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from concoord_ray.errors import StorageError
from concoord_ray.paxos.outputs import Joined
from concoord_ray.paxos.view import Role, View
from concoord_ray.storage import birth as births
from concoord_ray.storage.birth import Birth
from concoord_ray.storage.database import FILE_NAME
from concoord_ray.storage.durable import DurableStorage

logger = logging.getLogger(__name__)


class Kept(msgspec.Struct, frozen=True):
    """What one node has of one ensemble."""

    birth: Birth
    #: By index, the newest view that each acceptor takes part in; None if its data are broken.
    acceptors: dict[int, View | None]


def survey(storage: str, name: str) -> list[Kept]:
    """Every ensemble called ``name`` that there is something of here. What cannot be read is logged and left out."""
    found = []
    for path in sorted(Path(storage, name).glob(f"*/{births.FILE_NAME}")):
        try:
            birth = births.read_birth(path)
        except StorageError as error:
            logger.warning("%s", error)
            continue
        found.append(Kept(birth, {index: _view(birth, index, directory) for index, directory in _acceptors(path)}))
    return found


def _acceptors(path: Path) -> list[tuple[int, Path]]:
    prefix = f"{Role.ACCEPTOR}-"
    directories = [each for each in path.parent.glob(f"{prefix}*") if each.name.removeprefix(prefix).isdigit()]
    return sorted((int(each.name.removeprefix(prefix)), each) for each in directories)


def _view(birth: Birth, index: int, directory: Path) -> View | None:
    if not (directory / FILE_NAME).exists():
        return None
    try:
        storage = DurableStorage.open(
            directory, ensemble=birth.ensemble, role=Role.ACCEPTOR, index=index, incarnation=0
        )
        try:
            views = [record.view for record in storage.load() if isinstance(record, Joined)]
            return max(views, key=lambda view: view.epoch, default=None)
        finally:
            storage.close()
    except StorageError as error:
        logger.warning("%s", error)
        return None
