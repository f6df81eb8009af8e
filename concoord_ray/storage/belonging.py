"""Whose data are in a directory: the member's that asks for them, and all of one life.

Two mistakes look alike, and are told apart. Data of another member, or only its database or only its watermark, are
refused and left where they are: that member may miss them, and whoever exchanged them can change them back. Database
and watermark of two lives of one member cannot both be right, and what one of them acknowledged is lost: they are
corrupt as any others.
"""

from __future__ import annotations

from pathlib import Path

from concoord_ray.errors import StorageError
from concoord_ray.storage.database import corrupt, log_of
from concoord_ray.storage.rows import TOTALS, Identity
from concoord_ray.storage.watermark import Mark


def refuse_strangers(directory: Path, asked: Identity, *found: Identity | None) -> None:
    """Raise ``StorageError`` if any of what was found is another member's."""
    for identity in found:
        if identity is not None and _member_of(identity) != _member_of(asked):
            raise StorageError(
                f"{directory} holds the data of {_member_of(identity)}, not of {_member_of(asked)}. Give each member "
                "a directory of its own."
            )


def check_mark(path: Path, identity: Identity | None, commit: int, mark: Mark) -> None:
    """Make sure that a sound database is that of its watermark, and has every commit that this says.

    ``identity`` and ``commit`` are what the database says. Raises ``StorageCorrupt``.
    """
    if identity is None:
        raise corrupt(path, "table records: the row that says whose data it is is gone")
    if identity != mark.identity:
        raise corrupt(
            path,
            f"it is of {_member_of(identity)} in incarnation {identity.incarnation:x}, and its watermark is of "
            f"{_member_of(mark.identity)} in incarnation {mark.identity.incarnation:x}: one of the two is from "
            "elsewhere",
        )
    if commit < mark.commit:
        raise corrupt(
            path,
            f"table records: row {TOTALS} is of commit {commit}, but commit {mark.commit} was acknowledged: "
            f"the end of {log_of(path).name} is lost",
        )


def _member_of(identity: Identity) -> str:
    return f"{identity.role} {identity.index} of ensemble {identity.ensemble!r}"
