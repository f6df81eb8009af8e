"""A class may derive from one that is replicated, also from those that come with the package."""

from __future__ import annotations

from typing import Any

import concoord_ray as concoord
from concoord_ray.objects.lock import Lock as PlainLock
from tests.rsm.log import calling, result
from tests.rsm.restored import RestoredLog

LOCK: Any = concoord.Lock


@concoord.replicated
class Counted(LOCK):  # type: ignore[misc]
    """Counts how often it was acquired."""

    def __init__(self) -> None:
        super().__init__()
        self.acquired = 0

    @concoord.blocking
    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self.acquired += 1
        taken: bool = super().acquire(blocking, timeout)
        return taken

    def count(self) -> int:
        return self.acquired


PARENT: Any = Counted


@concoord.replicated
class Twice(PARENT):  # type: ignore[misc]
    def count(self) -> int:
        counted: int = super().count()
        return 2 * counted


def test_it_derives_from_the_class_that_was_decorated() -> None:
    assert Twice.__wrapped__.__mro__[1:3] == (Counted.__wrapped__, PlainLock)
    assert {"acquire", "release", "acquire_fenced", "lost", "count"} <= set(Twice._methods)


def test_its_objects_do_what_both_do_also_after_a_restore() -> None:
    log = RestoredLog()
    one, other = log.open(), log.open()
    object_id = one.create(Twice.__wrapped__)
    assert one.call(object_id, "acquire") is True
    other.park(object_id, "acquire")
    log.restore()
    assert sorted(map(str, map(result, one.send(calling(object_id, "release"))))) == ["None", "True"]
    assert one.call(object_id, "count") == 4


def test_one_that_is_not_decorated_is_an_ordinary_class() -> None:
    class Local(LOCK):  # type: ignore[misc]
        pass

    assert isinstance(Local(), PlainLock)
    assert not isinstance(Local, concoord.ReplicatedClass)
