"""With storage everything may die at once, Ray too: the same call to ``init`` brings all of it back.

Each test has Ray clusters of its own, in processes of their own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import concoord_ray as concoord
from concoord_ray.rsm.snapshot import header
from concoord_ray.storage.snapshots import read_file
from tests.integration.casualties import kill, strong
from tests.integration.conftest import MakeEnsemble
from tests.integration.drivers import Driver, Drivers
from tests.storage.pieces import flip

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]

_START = """
import os, signal, time
import ray
import concoord_ray as concoord
def say(*words):
    print("said:", *words, flush=True)
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
began_s = time.monotonic()
def init(**settings):
    return concoord.init(storage={storage!r}, session_ttl_s=30.0, **settings)
"""
_INIT = "ensemble = init()"
_KILL_EVERYTHING = """
status = concoord.status()
for member in (*status.acceptors, *status.replicas, *status.registries, *status.gateways):
    os.kill(member.pid, signal.SIGKILL)
ray.shutdown()
say("dead")
"""


def said(driver: Driver) -> str:
    """What the script says next. Ray may speak in between."""
    while not (line := driver.line()).startswith("said: "):
        pass
    return line.removeprefix("said: ")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Driver]]:
    """Starts a script with a Ray cluster of its own, in which it starts an ensemble or finds it again."""
    with Drivers("") as drivers:
        yield lambda body: drivers.start(
            _START.format(storage=str(tmp_path)) + (body if "init(" in body else _INIT + body), connect=False
        )


def test_after_everything_has_died_everything_is_back(start: Callable[[str], Driver]) -> None:
    first = start(
        """
counter = concoord.Counter.options(name="counter").remote()
lock = concoord.Lock.options(name="lock").remote()
queue = concoord.Semaphore.options(name="queue").remote(0)
for _ in range(100):
    counter.increment()
token = lock.__enter__()
parked = queue.acquire.remote()
while not queue.inspect().waiting:
    time.sleep(0.05)
say(ensemble.id, token)
"""
        + _KILL_EVERYTHING,
    )
    ensemble_id, token = said(first).split()
    assert said(first) == "dead"
    first.finish()
    second = start(
        """
counter, lock, queue = (concoord.get(name) for name in ("counter", "lock", "queue"))
say(ensemble.id, counter.getvalue(), lock.locked())
queue.release()
time.sleep(0.2)
say(queue.acquire(blocking=False))  # The process that waits there is dead, and is not known to be.
deadline_s = time.monotonic() + 60
while lock.locked() and time.monotonic() < deadline_s:
    time.sleep(0.2)
say(lock.__enter__(), counter.increment())
"""
        + _KILL_EVERYTHING,
    )
    assert said(second).split() == [ensemble_id, "100", "True"]
    assert said(second) == "False"
    later, count = said(second).split()
    assert int(later) > int(token)
    assert count == "101"
    assert said(second) == "dead"
    second.finish()


def test_flipped_bits_make_a_new_acceptor_and_loses_nothing(start: Callable[[str], Driver], tmp_path: Path) -> None:
    first = start(
        """
counter = concoord.Counter.options(name="counter").remote()
for _ in range(50):
    counter.increment()
say(concoord.status().acceptors[0].incarnation)
"""
        + _KILL_EVERYTHING,
    )
    incarnation = said(first)
    assert said(first) == "dead"
    first.finish()
    (database,) = tmp_path.glob("default/*/acceptor-0/acceptor.sqlite")
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    # A bit of every command that was accepted: SQLite leaves copies in free pages, and there it would do no harm.
    database.write_bytes(database.read_bytes().replace(b"increment", b"incremenu"))
    second = start(
        """
counter = concoord.get("counter")
deadline_s = time.monotonic() + 60
while not all(a.alive and a.in_view for a in concoord.status().acceptors) and time.monotonic() < deadline_s:
    time.sleep(0.1)
status = concoord.status()
say(counter.increment(), status.epoch, status.acceptors[0].in_view, status.acceptors[0].incarnation)
"""
        + _KILL_EVERYTHING,
    )
    count, epoch, in_view, now = said(second).split()
    assert (count, epoch, in_view) == ("51", "1", "True")
    assert now != incarnation
    assert said(second) == "dead"
    second.finish()
    assert len(list(tmp_path.glob("default/*/acceptor-0.corrupt-*"))) == 1


def test_damaged_certificates_are_mended_and_damaged_snapshots_are_named_at_once(
    start: Callable[[str], Driver], tmp_path: Path
) -> None:
    first = start(
        """
ensemble = init(snapshot_log_bytes=20_000, truncate_log_bytes=20_000, truncate_slots=200)
counter = concoord.Counter.options(name="counter").remote()
while min(r.applied_slot or 0 for r in concoord.status().replicas) < 3000:
    for _ in range(500):
        counter.increment()
say(ensemble.id, counter.getvalue())
"""
        + _KILL_EVERYTHING,
    )
    ensemble_id, count = said(first).split()
    assert said(first) == "dead"
    first.finish()
    births = [tmp_path / "default" / ensemble_id / "birth", *tmp_path.glob("default/*/acceptor-*/birth")]
    assert len(births) == 4
    whole = births[0].read_bytes()
    for path in births[:3]:
        flip(path, 40, 1)
    second = start(
        """
ensemble = init()
say(ensemble.id, concoord.get("counter").getvalue())
"""
        + _KILL_EVERYTHING,
    )
    assert said(second).split() == [ensemble_id, count]
    assert said(second) == "dead"
    second.finish()
    assert [path.read_bytes() for path in births] == [whole] * 4
    snapshots = list(tmp_path.glob("default/*/replica-*/snapshot-*"))
    for path in snapshots:
        flip(path, -1, 1)
    third = start(
        """
try:
    init(timeout_s=60)
except concoord.ConfigurationError as error:
    say(time.monotonic() - began_s < 20, error)
"""
    )
    answer = said(third)
    third.finish()
    assert answer.startswith("True ")
    assert "no replica's snapshot goes so far" in answer
    assert all(str(path) in answer for path in snapshots)


def test_a_durable_acceptor_comes_back_as_itself(own_ensemble: MakeEnsemble, tmp_path: Path) -> None:
    name = own_ensemble("durable", storage=str(tmp_path)).name
    counter = concoord.Counter.options(ensemble=name).remote()
    before = strong(name)
    for acceptor in before.acceptors:  # All at once: with their data, no majority is lost.
        kill(acceptor)
    assert counter.increment() == 1
    after = strong(name)
    assert after.epoch == 0
    assert [a.incarnation for a in after.acceptors] == [a.incarnation for a in before.acceptors]


def test_a_backup_is_a_file_with_all_that_was_acknowledged(own_ensemble: MakeEnsemble, tmp_path: Path) -> None:
    ensemble = own_ensemble("backed-up", replicas=2)
    counter = concoord.Counter.options(name="c", ensemble=ensemble.name).remote()
    for _ in range(10):
        counter.increment()
    slot = concoord.backup(tmp_path / "backup", ensemble.name)
    found, data = read_file(tmp_path / "backup")
    assert (found.ensemble, found.slot, header(data).next_slot) == (ensemble.id, slot, slot)
    assert slot >= 11
