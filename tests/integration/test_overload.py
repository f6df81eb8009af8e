"""Floods: whoever can wait waits, whoever cannot is told so, nothing answered is lost, and nobody falls over."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import Handle, MemberStatus
from tests.integration.casualties import a_follower, settled
from tests.integration.conftest import INIT_TIMEOUT_S, MakeEnsemble
from tests.integration.drivers import Drivers
from tests.integration.waiting import PATIENCE_S, until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]

MIB = 1 << 20

SMALL: dict[str, Any] = {
    "max_queued_commands": 40,
    "max_parked_calls": 40,
    "max_calls_per_process": 100,
    "max_batch_commands": 20,
}


class DepotState:
    """Takes and gives large things."""

    def __init__(self) -> None:
        self.taken = 0
        self.held = b""

    def take(self, what: bytes) -> int:
        self.taken += 1
        return len(what)

    def hold(self, size: int) -> None:
        self.held = b"x" * size

    def give(self) -> bytes:
        self.taken += 1
        return self.held

    @concoord.readonly
    def look(self) -> bytes:
        return self.held

    @concoord.readonly
    def count(self) -> int:
        return self.taken


Depot = concoord.replicated(DepotState)


def members(name: str) -> list[MemberStatus]:
    status = settled(name)
    return [*status.replicas, *status.acceptors, *status.registries, *status.gateways]


def peak_bytes(member: MemberStatus) -> int:
    """The most memory that its process ever had."""
    text = Path(f"/proc/{member.pid}/status").read_text()
    found = re.search(r"VmHWM:\s*(\d+) kB", text)
    assert found is not None
    return int(found[1]) << 10


def assert_nobody_fell(name: str, before: list[MemberStatus], peak_mib: int) -> None:
    """Every process is the one that it was, and none has needed much memory."""
    after = {(member.role, member.index): member for member in members(name)}
    for member in before:
        assert after[member.role, member.index].incarnation == member.incarnation
    if Path("/proc/self/status").exists():
        peaks = {f"{member.role}{member.index}": peak_bytes(member) // MIB for member in before}
        assert max(peaks.values()) < peak_mib, peaks


def ended(calls: list[Coroutine[Any, Any, Any]]) -> Counter[str]:
    """How all of these end, awaited at once."""

    async def main() -> list[Any]:
        return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 2 * PATIENCE_S)

    return Counter(type(each).__name__ if isinstance(each, BaseException) else "ok" for each in asyncio.run(main()))


def make_many(call: Callable[[], Any], refs: list[Any], count: int) -> None:
    """Make so many calls, and wait for none."""
    for _ in range(count):
        refs.append(call())  # noqa: PERF401  # Those made before one is refused are wanted too.


@pytest.fixture(scope="module")
def small(cluster: str) -> Iterator[str]:
    """An ensemble with small bounds."""
    yield concoord.init("overload-small", acceptors=3, replicas=2, timeout_s=INIT_TIMEOUT_S, **SMALL).name
    concoord.shutdown("overload-small")


FLOOD = """
import asyncio
from concurrent.futures import ThreadPoolExecutor

counter = concoord.get("flooded", ensemble=name)
print("ready")

async def main():
    await asyncio.gather(*(counter.increment.aio() for _ in range(calls)))

def by_ref(_):
    return len(ray.get([counter.increment.remote() for _ in range(calls // 20)]))

with ThreadPoolExecutor(6) as pool:
    direct = [pool.submit(counter.increment) for _ in range(calls // 10)]
    refs = pool.map(by_ref, range(2))
    asyncio.run(main())
    print(len([each.result() for each in direct]) + sum(refs) + calls)
"""


def test_callers_of_a_flooded_ensemble_wait_and_each_call_counts_once(small: str, drivers: Drivers) -> None:
    counter = concoord.Counter.options(name="flooded", ensemble=small).remote(0)
    counter.increment.remote()
    before = members(small)
    flooding = [drivers.start(FLOOD, name=small, calls=1500) for _ in range(3)]
    assert [driver.line() for driver in flooding] == ["ready"] * 3
    made = sum(int(driver.line(2 * PATIENCE_S)) for driver in flooding)
    assert made == 3 * (1500 + 150 + 150)
    until(lambda: counter.getvalue() == made + 1)
    assert_nobody_fell(small, before, 400)


def test_too_many_calls_that_wait_are_refused_and_the_release_is_not(small: str) -> None:
    semaphore = concoord.Semaphore.options(ensemble=small).remote(0)
    bound = SMALL["max_parked_calls"]

    async def main() -> Counter[str]:
        calls = [asyncio.create_task(semaphore.acquire.aio()) for _ in range(bound + 10)]
        refused, _ = await asyncio.wait(calls, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        while len(refused) < 10:
            await asyncio.sleep(0.05)
            refused = {call for call in calls if call.done()}
        assert {type(call.exception()) for call in refused} == {concoord.Overloaded}
        assert all("max_parked_calls" in str(call.exception()) for call in refused)
        await semaphore.release.aio(bound)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        return Counter("refused" if isinstance(each, concoord.Overloaded) else str(each) for each in answers)

    assert asyncio.run(asyncio.wait_for(main(), 2 * PATIENCE_S)) == {"True": bound, "refused": 10}
    assert "count=0" in semaphore.describe()


def test_a_process_makes_no_more_calls_at_once_than_it_may(small: str) -> None:
    counter = concoord.Counter.options(ensemble=small).remote(0)
    semaphore = concoord.Semaphore.options(ensemble=small).remote(0)
    bound = SMALL["max_calls_per_process"]
    # Who can wait does: the refs are there when others have ended.
    assert len(ray.get([counter.increment.remote() for _ in range(5 * bound)], timeout=PATIENCE_S)) == 5 * bound
    # Calls that may wait are refused, here by the log; and those of this process, before they are sent.
    parked: list[Any] = []
    with pytest.raises(concoord.Overloaded, match="this process"):
        make_many(semaphore.acquire.remote, parked, 2 * bound)
    assert counter.increment() == ray.get(counter.getvalue.remote()) == 5 * bound + 1
    semaphore.release(len(parked))
    granted = 0
    for ref in parked:
        try:
            granted += ray.get(ref, timeout=PATIENCE_S)
        except concoord.Overloaded:
            continue
    assert granted == SMALL["max_parked_calls"]

    async def main() -> None:
        """On an event loop nobody may be held up."""
        refs: list[Any] = []
        with pytest.raises(concoord.Overloaded, match="await some"):
            make_many(counter.increment.remote, refs, 20 * bound)
        await asyncio.gather(*refs)
        await counter.increment.remote()

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


@pytest.fixture(scope="module")
def depot(cluster: str) -> Iterator[Handle[Any]]:
    """In an ensemble with usual bounds. A busy machine moves large things slowly."""
    name = concoord.init("depot", acceptors=3, replicas=2, timeout_s=INIT_TIMEOUT_S).name
    made: Handle[Any] = Depot.options(name="depot", ensemble=name).remote()
    made.count.remote()
    yield made
    concoord.shutdown("depot")


def test_large_arguments_take_turns(depot: Handle[Any]) -> None:
    before = members("depot")
    taken = depot.count()
    large = b"x" * (50 * MIB)
    with ThreadPoolExecutor(2) as pool:
        refs = pool.submit(lambda: ray.get([depot.take.remote(large) for _ in range(2)], timeout=2 * PATIENCE_S))
        assert ended([depot.take.aio(large) for _ in range(4)]) == {"ok": 4}
        assert refs.result() == [50 * MIB] * 2
    assert depot.count() == taken + 6
    with pytest.raises(concoord.FrameTooLarge):
        depot.take(b"x" * (64 * MIB))
    assert_nobody_fell("depot", before, 1500)


ASK = """
import asyncio
depot = concoord.get("depot", ensemble="depot")

async def main():
    calls = [depot.look.aio() for _ in range(60)] + [depot.give.aio() for _ in range(20)]
    asked = asyncio.gather(*calls)
    await asyncio.sleep(0.02)
    print("asked")
    print(sum(map(len, await asked)))

asyncio.run(main())
"""


def test_a_client_that_does_not_read_keeps_nobody_waiting(depot: Handle[Any], drivers: Drivers) -> None:
    depot.hold(5 * MIB)
    before = members("depot")
    slow = drivers.start(ASK)
    assert slow.line() == "asked"
    os.kill(slow.pid, signal.SIGSTOP)
    try:
        for _ in range(20):
            assert depot.count.options(timeout=PATIENCE_S)() >= 0
            assert len(depot.look.options(timeout=PATIENCE_S)()) == 5 * MIB
    finally:
        os.kill(slow.pid, signal.SIGCONT)
    assert int(slow.line(2 * PATIENCE_S)) == 80 * 5 * MIB
    assert_nobody_fell("depot", before, 1500)


def test_a_replica_that_stands_still_does_not_fill_the_log_of_the_others(own_ensemble: MakeEnsemble) -> None:
    name = own_ensemble(replicas=3, max_log_bytes=2 * MIB, truncate_log_bytes=MIB // 2, quorum_timeout_s=8.0).name
    depot: Handle[Any] = Depot.options(ensemble=name).remote()
    before = members(name)
    stopped = a_follower(settled(name))
    assert stopped.pid is not None
    os.kill(stopped.pid, signal.SIGSTOP)
    try:
        told = ended([depot.take.aio(b"x" * (64 << 10)) for _ in range(200)])
    finally:
        os.kill(stopped.pid, signal.SIGCONT)
    assert told.keys() <= {"ok", "Overloaded"}
    assert told["ok"] > 0
    assert depot.count() == told["ok"]  # Who was told that it was not executed can rely on it.
    until(lambda: len({replica.applied_slot for replica in settled(name).replicas}) == 1)
    assert_nobody_fell(name, before, 400)
