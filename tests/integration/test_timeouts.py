"""A call's own time limit, and silence: every call ends in time, and says truly what is known of it."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import MemberStatus
from tests.integration.casualties import kill, settled
from tests.integration.conftest import MakeEnsemble
from tests.integration.drivers import Drivers
from tests.integration.samples import PATHS, Tally
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]

#: What a busy machine may add.
SLACK_S = 6.0
LIMIT_S = 1.0
GRACE_S = 1.5


class SleeperState:
    """Holds up the log, as user code may."""

    def __init__(self) -> None:
        self.calls = 0

    def sleep(self, duration_s: float) -> None:
        time.sleep(duration_s)

    def count(self) -> int:
        self.calls += 1
        return self.calls

    @concoord.readonly
    def get(self) -> int:
        return self.calls


@contextlib.contextmanager
def standing_still(members: tuple[MemberStatus, ...]) -> Iterator[None]:
    """Their processes stand still; their connections stay open."""
    pids = [member.pid for member in members if member.pid is not None]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def ends_of(calls: list[Callable[[], Any]]) -> list[tuple[Any, float]]:
    """The result of each call, or what it raised, and after how long. All are made at once."""

    def end(call: Callable[[], Any]) -> tuple[Any, float]:
        began_s = time.monotonic()
        try:
            result = call()
        except Exception as error:
            result = error
        return result, time.monotonic() - began_s

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(end, calls))


def every_way(method: Any) -> list[Callable[[], Any]]:
    """The method by every path."""
    return [functools.partial(path, method) for path in PATHS]


def limited(method: Any) -> list[Callable[[], Any]]:
    """The same, with a limit."""
    return every_way(method.options(timeout=LIMIT_S))


@pytest.fixture(scope="module")
def sleeping(cluster: str) -> Iterator[str]:
    yield concoord.init("sleeping", timeout_s=90, withdrawal_grace_s=GRACE_S, quorum_timeout_s=4.0).name
    concoord.shutdown("sleeping")


def test_a_call_that_a_slow_one_holds_up_says_that_it_may_yet_be_applied(sleeping: str) -> None:
    slow = concoord.replicated(determinism="ignore")(SleeperState).options(ensemble=sleeping).remote()
    lock = concoord.Lock.options(ensemble=sleeping).remote()
    slow.count()
    lock.acquire()
    lock.release()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(slow.sleep, 9.0)
        time.sleep(0.5)
        ends = ends_of([*limited(slow.count), *limited(lock.acquire), *limited(slow.get)])
        call.result(60)
    for error, took_s in ends[:6]:
        assert isinstance(error, concoord.OutcomeUnknown), error
        assert "may yet be" in str(error)
        assert LIMIT_S + GRACE_S - 0.1 <= took_s < LIMIT_S + GRACE_S + SLACK_S
    for error, took_s in ends[6:]:
        assert isinstance(error, concoord.CallTimeout), error
        assert took_s < LIMIT_S + SLACK_S
    counted = slow.count()
    assert 2 < counted <= 5  # Applied later, as was said, but where the withdrawal was quicker on its way.
    assert lock.acquire(timeout=30) is True  # What was granted to nobody was given back.
    lock.release()
    assert slow.count.options(timeout=30)() == counted + 1


def test_when_all_replicas_stand_still_every_call_ends_and_then_all_goes_on(sleeping: str) -> None:
    tally = Tally.options(ensemble=sleeping).remote()
    semaphore = concoord.Semaphore.options(ensemble=sleeping).remote(0)
    for path in PATHS:
        path(tally.increment)
    parked = semaphore.acquire.remote()
    assert ray.wait([parked], timeout=6.0)[0] == []  # Longer than a leader may be silent.
    with standing_still(settled(sleeping).replicas):
        bounded = ends_of(limited(tally.increment))
        unbounded = ends_of([*every_way(tally.increment), *every_way(tally.get)])
        with pytest.raises(concoord.OutcomeUnknown):
            ray.get(parked, timeout=30)
        unsent = ends_of([*limited(tally.increment), *limited(tally.get)])
    assert [type(error) for error, _ in bounded[1:]] == [concoord.OutcomeUnknown] * 2
    assert all(took_s < LIMIT_S + GRACE_S + SLACK_S for _, took_s in bounded)
    for error, took_s in unbounded:
        assert isinstance(error, (concoord.QuorumLost, concoord.OutcomeUnknown)), error
        assert "stands still" in str(error)
        assert took_s < 4.0 + SLACK_S
    for error, took_s in unsent:
        assert isinstance(error, concoord.CallTimeout), error
        assert took_s < LIMIT_S + SLACK_S
    until(lambda: _works(tally))
    assert [path(tally.get) for path in PATHS] == [tally.get()] * 3
    semaphore.release()
    assert semaphore.acquire(timeout=30) is True


def _works(tally: Any) -> bool:
    with contextlib.suppress(concoord.ConcoordError):
        for path in PATHS:
            path(tally.increment)
        return True
    return False


def test_without_a_majority_a_limit_is_kept_and_what_was_not_sent_is_safe_to_retry(own_ensemble: MakeEnsemble) -> None:
    name = own_ensemble("limited", replicas=2).name
    tally = Tally.options(ensemble=name).remote()
    tally.increment()
    for acceptor in [each for each in settled(name).acceptors if each.in_view][:2]:
        kill(acceptor)
    until(lambda: concoord.status(name).leader is None)
    for error, took_s in ends_of([*limited(tally.increment), *limited(tally.get)]):
        assert isinstance(error, (concoord.CallTimeout, concoord.OutcomeUnknown)), error
        assert took_s < LIMIT_S + 3.0 + SLACK_S
    time.sleep(1.0)
    for error, took_s in ends_of([*limited(tally.increment), *limited(tally.get)]):
        assert isinstance(error, concoord.CallTimeout), error
        assert "majority of its acceptors" in str(error)
        assert took_s < LIMIT_S + SLACK_S


@pytest.mark.parametrize("timeout", ["x", b"1", True, [1.0]])
def test_what_is_no_number_is_no_limit(timeout: Any, ensemble: concoord.Ensemble) -> None:
    with pytest.raises(TypeError, match="positive number of seconds"):
        Tally.remote().increment.options(timeout=timeout)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e300])
def test_what_is_not_positive_is_no_limit(timeout: Any, ensemble: concoord.Ensemble) -> None:
    with pytest.raises(ValueError, match="positive number of seconds"):
        Tally.remote().increment.options(timeout=timeout)


#: Looks for an object, and prints what it is told.
LOOKS = """
try:
    concoord.get("hits", ensemble=name)
except concoord.ConcoordError as error:
    print(type(error).__name__, error)
"""


def test_a_process_that_finds_no_registry_says_so(own_ensemble: MakeEnsemble, drivers: Drivers) -> None:
    """Everything else is well: nobody should be sent to recover anything."""
    name = own_ensemble("unheard", quorum_timeout_s=3.0).name
    Tally.options(name="hits", ensemble=name).remote().increment()
    with standing_still(settled(name).registries):
        looking = drivers.start(LOOKS, name=name)
        (said,) = [line for line in looking.finish() if "(raylet)" not in line]
    assert said.startswith("QuorumLost")
    assert "no registry" in said
    assert "registry 0" in said
    assert "recover()" not in said
    assert "Task was destroyed" not in looking.stderr()
