"""An ensemble is shut down, or recovered, and another has its name: processes that were attached to it notice.

They are long-lived, as Ray actors and drivers are, and nobody restarts them for that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import Handle
from tests.integration.conftest import MakeEnsemble
from tests.integration.waiting import PATIENCE_S, until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

SMALL: dict[str, Any] = {"acceptors": 1, "replicas": 1}


class Resident:
    """A process that is attached to an ensemble, and has calls that wait in it."""

    def __init__(self, ensemble: str) -> None:
        self.ensemble = ensemble
        self.counter = concoord.get("counter", ensemble=ensemble)
        self.semaphore = concoord.get("semaphore", ensemble=ensemble)
        self.lock = concoord.get("lock", ensemble=ensemble)
        self.lock.acquire()
        self.told: list[BaseException | bool] = []
        self.counter.increment()
        self.parked = self.semaphore.acquire.remote()
        self.stops_calling = threading.Event()
        self.failed: list[BaseException] = []
        self.calling = threading.Thread(target=self._keep_calling, daemon=True)
        self.calling.start()
        for wait in (self.semaphore.acquire, self.lock.lost, self.semaphore.acquire):
            threading.Thread(target=self._wait, args=(wait,), daemon=True).start()

    def _wait(self, wait: Any) -> None:
        try:
            self.told.append(wait())
        except concoord.ConcoordError as error:
            self.told.append(error)

    def _keep_calling(self) -> None:
        while not self.stops_calling.wait(0.01):
            try:
                ray.get(self.counter.getvalue.remote(), timeout=PATIENCE_S)
            except Exception as error:
                self.failed.append(error)

    def strange_errors(self) -> list[str]:
        """What was raised, all the time, that is no error of ours."""
        self.stops_calling.set()
        self.calling.join(2 * PATIENCE_S)
        assert self.failed
        return [repr(error) for error in self.failed if not isinstance(error, concoord.ConcoordError)]

    def told_so_far(self) -> list[BaseException | bool]:
        return self.told

    def parked_ends_with(self) -> str:
        """What is raised. (Ray raises its own errors if they are returned.)"""
        try:
            ray.get(self.parked, timeout=PATIENCE_S)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        raise AssertionError("a call of an ensemble that is no more was granted")

    def use_old_handles(self) -> list[BaseException]:
        """What each way to call says."""
        told: list[BaseException] = []
        calls: list[Any] = [self.counter.increment, self.counter.getvalue, self.counter.increment.remote]
        for call in calls:
            try:
                call()
            except Exception as error:
                told.append(error)
        return told

    def use(self, handle: Handle[Any]) -> int:
        """A handle that somebody else has got."""
        return int(handle.increment())

    def get_again(self) -> int:
        return int(concoord.get("counter", ensemble=self.ensemble).increment())

    def names(self) -> list[str]:
        return concoord.list_objects(ensemble=self.ensemble)


@pytest.fixture
def resident(own_ensemble: MakeEnsemble) -> Iterator[Any]:
    name = own_ensemble("replaced", **SMALL).name
    concoord.Counter.options(name="counter", ensemble=name).remote(0)
    concoord.Semaphore.options(name="semaphore", ensemble=name).remote(0)
    concoord.Lock.options(name="lock", ensemble=name).remote()
    actor: Any = ray.remote(num_cpus=0)(Resident).remote(name)
    try:
        semaphore = concoord.get("semaphore", ensemble=name)
        until(lambda: len(semaphore.inspect().waiting) == 3)
        yield actor
    finally:
        kill: Any = ray.kill  # It has no types.
        kill(actor)


def check(resident: Any, value: int, handle: Handle[Any]) -> None:
    """What an old process sees of the new ensemble, whose counter stands at ``value``."""
    asked_s = time.monotonic()
    assert ray.get(resident.names.remote(), timeout=PATIENCE_S) == ["counter", "semaphore", "lock"]
    assert ray.get(resident.get_again.remote(), timeout=PATIENCE_S) == value + 1
    print(f"found again after {time.monotonic() - asked_s:.2f} s")  # noqa: T201
    assert ray.get(resident.use.remote(handle), timeout=PATIENCE_S) == value + 2
    told = ray.get(resident.use_old_handles.remote(), timeout=PATIENCE_S)
    assert [type(error) for error in told] == [concoord.NoSuchObject] * 3
    assert all("concoord.get" in str(error) for error in told)
    waited = until(lambda: len(found := ray.get(resident.told_so_far.remote(), timeout=PATIENCE_S)) == 3 and found)
    assert waited
    assert waited.count(True) == 1  # What it held is lost, and it was waiting for that news.
    unknown = [error for error in waited if error is not True]
    assert [type(error) for error in unknown] == [concoord.OutcomeUnknown] * 2
    assert all("concoord.get" in str(error) for error in unknown)
    parked = ray.get(resident.parked_ends_with.remote(), timeout=2 * PATIENCE_S)
    assert parked.startswith("RayTaskError(OutcomeUnknown)")
    assert "concoord.get" in parked
    assert ray.get(resident.strange_errors.remote(), timeout=3 * PATIENCE_S) == []


def test_after_recover_an_old_process_finds_the_new_ensemble(resident: Any, tmp_path: Path) -> None:
    concoord.backup(tmp_path / "backup", "replaced")
    concoord.shutdown("replaced")
    new = concoord.recover("replaced", source=tmp_path / "backup", **SMALL)
    check(resident, 1, concoord.get("counter", ensemble=new.name))


def test_after_shutdown_and_init_too(resident: Any, own_ensemble: MakeEnsemble) -> None:
    concoord.shutdown("replaced")
    new = own_ensemble("replaced", **SMALL)
    counter = concoord.Counter.options(name="counter", ensemble=new.name).remote(10)
    concoord.Semaphore.options(name="semaphore", ensemble=new.name).remote(0)
    concoord.Lock.options(name="lock", ensemble=new.name).remote()
    check(resident, 10, counter)
