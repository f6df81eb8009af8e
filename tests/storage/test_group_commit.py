"""What waits for a commit shares the next one; what is released was made durable; nothing is after a failure."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from concoord_ray.errors import StorageFailed
from concoord_ray.paxos.outputs import Record
from concoord_ray.storage.group_commit import GroupCommit
from tests.storage.pieces import START, accepted, accepted_slots, opened, records

PATIENCE_S = 20


class Disk:
    """Commits one at a time, when it is told to, and knows what it was given."""

    def __init__(self) -> None:
        self.commits: list[list[Record]] = []
        self.began = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.error: Exception | None = None

    def append(self, given: Sequence[Record]) -> None:
        self.began.release()
        assert self.may_end.acquire(timeout=PATIENCE_S)
        if self.error is not None:
            raise self.error
        self.commits.append(list(given))

    async def has_begun(self) -> None:
        await asyncio.to_thread(self.began.acquire, timeout=PATIENCE_S)


class Scene:
    """A group commit over a disk, and what came of it."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.released: list[str] = []
        self.failures: list[BaseException] = []
        self.group = GroupCommit(self.disk.append, asyncio.get_running_loop(), self.failures.append)

    def submit(self, name: str, *given: Record) -> None:
        """``name`` is released with the number of commits at that time."""
        self.group.submit(given, lambda: self.released.append(f"{name}@{len(self.disk.commits)}"))

    async def until_released(self, count: int) -> None:
        await until(lambda: len(self.released) >= count)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds; ``run`` bounds the wait."""
    while not condition():  # noqa: ASYNC110 (what is waited for knows nothing of events)
        await asyncio.sleep(0.001)


def run(scenario: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        scene = Scene()
        await asyncio.wait_for(scenario(scene), PATIENCE_S)
        scene.disk.may_end.release(100)
        await asyncio.wait_for(scene.group.close(), PATIENCE_S)

    asyncio.run(main())


def test_everything_submitted_during_a_commit_shares_the_next() -> None:
    async def scenario(scene: Scene) -> None:
        scene.submit("a", accepted(0))
        await scene.disk.has_begun()
        scene.submit("b", accepted(1), accepted(2))
        scene.submit("c", accepted(3))
        scene.submit("d", accepted(4))
        assert scene.released == []
        scene.disk.may_end.release()
        await scene.until_released(1)
        assert scene.released == ["a@1"]
        scene.disk.may_end.release()
        await scene.until_released(4)
        assert scene.released == ["a@1", "b@2", "c@2", "d@2"]
        assert scene.disk.commits == [[accepted(0)], accepted_slots(range(1, 5))]

    run(scenario)


def test_a_submission_without_records_waits_its_turn() -> None:
    async def scenario(scene: Scene) -> None:
        scene.submit("before")
        assert scene.released == ["before@0"]
        scene.submit("a", accepted(0))
        await scene.disk.has_begun()
        scene.submit("between")
        scene.submit("b", accepted(1))
        scene.submit("behind")
        scene.disk.may_end.release()
        await scene.until_released(2)
        scene.disk.may_end.release()
        await scene.until_released(5)
        assert scene.released == ["before@0", "a@1", "between@2", "b@2", "behind@2"]
        assert scene.disk.commits == [[accepted(0)], [accepted(1)]]
        scene.submit("after")
        assert scene.released[-1] == "after@2"

    run(scenario)


def test_only_submissions_without_records_need_no_commit() -> None:
    async def scenario(scene: Scene) -> None:
        scene.submit("a", accepted(0))
        await scene.disk.has_begun()
        scene.submit("b")
        scene.disk.may_end.release()
        await scene.until_released(2)
        assert scene.disk.commits == [[accepted(0)]]

    run(scenario)


def test_what_a_release_submits_comes_after_what_was_released_with_it() -> None:
    async def scenario(scene: Scene) -> None:
        def release() -> None:
            scene.submit("nested")
            scene.released.append("outer")

        scene.group.submit([accepted(0)], release)
        scene.disk.may_end.release()
        await scene.until_released(2)
        assert scene.released == ["outer", "nested@1"]

    run(scenario)


def test_after_a_failed_commit_nothing_is_released_ever_again() -> None:
    async def scenario(scene: Scene) -> None:
        scene.submit("a", accepted(0))
        await scene.disk.has_begun()
        scene.submit("b", accepted(1))
        scene.submit("c")
        error = scene.disk.error = OSError(5, "Input/output error")
        scene.disk.may_end.release()
        await until(lambda: bool(scene.failures))
        scene.disk.error = None
        scene.submit("d", accepted(2))
        scene.submit("e")
        await scene.group.close()
        assert scene.failures == [error]
        assert scene.released == []
        assert scene.disk.commits == []

    run(scenario)


def test_a_release_that_raises_ends_it_as_a_failed_commit_does() -> None:
    async def scenario(scene: Scene) -> None:
        error = RuntimeError("half sent")

        def release() -> None:
            raise error

        scene.submit("a", accepted(0))
        await scene.disk.has_begun()
        scene.group.submit([], release)
        scene.submit("b", accepted(1))
        scene.disk.may_end.release()
        await scene.until_released(1)
        scene.disk.may_end.release()
        await until(lambda: bool(scene.failures))
        scene.submit("c")
        await scene.group.close()
        assert scene.failures == [error]
        assert scene.released == ["a@1"]

    run(scenario)


def test_of_two_failures_the_first_is_told() -> None:
    async def scenario(scene: Scene) -> None:
        error = RuntimeError("half sent")

        def release() -> None:
            scene.submit("b", accepted(1))
            raise error

        scene.group.submit([accepted(0)], release)
        await scene.disk.has_begun()
        scene.disk.may_end.release()
        await scene.disk.has_begun()
        scene.disk.error = OSError(5, "Input/output error")
        scene.disk.may_end.release()
        await scene.group.close()
        assert scene.failures == [error]

    run(scenario)


def test_after_a_failure_nothing_is_released_at_once_either() -> None:
    async def scenario(scene: Scene) -> None:
        def release() -> None:
            raise RuntimeError("half sent")

        scene.group.submit([accepted(0)], release)
        scene.disk.may_end.release()
        await until(lambda: bool(scene.failures))
        scene.submit("late")
        assert scene.released == []

    run(scenario)


def test_close_waits_for_all_that_was_submitted() -> None:
    async def scenario(scene: Scene) -> None:
        for slot in range(5):
            scene.submit(f"{slot}", accepted(slot))
        scene.disk.may_end.release(5)
        await asyncio.gather(scene.group.close(), scene.group.close())
        assert [name.partition("@")[0] for name in scene.released] == ["0", "1", "2", "3", "4"]
        assert [record for commit in scene.disk.commits for record in commit] == accepted_slots(range(5))
        with pytest.raises(RuntimeError, match="after close"):
            scene.submit("late", accepted(9))

    run(scenario)


def test_over_durable_storage_what_is_released_is_on_disk(tmp_path: Path) -> None:
    released: list[int] = []
    failures: list[BaseException] = []

    async def main() -> None:
        with opened(tmp_path / "data") as storage:
            group = GroupCommit(storage.append, asyncio.get_running_loop(), failures.append)
            group.submit(START, lambda: None)
            for slot in range(500):
                group.submit([accepted(slot)], lambda slot=slot: released.append(slot))  # type: ignore[misc]
                if slot % 7 == 0:
                    await asyncio.sleep(0)
            await asyncio.wait_for(group.close(), PATIENCE_S)
            assert storage._account.commit < 400  # Grouped.
            storage._database.close()
            broken = GroupCommit(storage.append, asyncio.get_running_loop(), failures.append)
            broken.submit([accepted(1000)], lambda: released.append(1000))
            await asyncio.wait_for(broken.close(), PATIENCE_S)

    asyncio.run(main())
    assert released == list(range(500))
    assert [type(failure) for failure in failures] == [StorageFailed]
    assert records(tmp_path / "data")[1:-1] == accepted_slots(range(500))
