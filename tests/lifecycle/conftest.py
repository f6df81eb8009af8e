"""The life of ensembles without a cluster: Ray's GCS is a dict, and members are there as soon as they are started.

Everything from ``init``, ``shutdown`` and ``recover`` down to ``genesis`` is as it is; what would ask Ray for actors
or nodes asks the ``Cluster`` below. Of a process that stands still at some point, or dies there, a test says by
``Cluster.at`` at which one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from concoord_ray import actors, building, ensemble, genesis, placement, recovery
from concoord_ray.actors import Described, Key
from concoord_ray.directory import MemberReport
from concoord_ray.genesis import Plan
from concoord_ray.net.identity import Address
from concoord_ray.paxos.membership import Size
from concoord_ray.paxos.view import Member, Role
from concoord_ray.rsm.executor import Executor

PATIENCE_S = 10.0


class Store:
    """Implements what ``genesis`` uses of ``ray.experimental.internal_kv``."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self._lock = threading.Lock()

    def _internal_kv_get(self, key: bytes, *, namespace: bytes) -> bytes | None:
        return self.records.get(key)

    def _internal_kv_put(self, key: bytes, value: bytes, *, overwrite: bool, namespace: bytes) -> bool:
        with self._lock:
            existed = key in self.records
            if overwrite or not existed:
                self.records[key] = value
            return existed

    def _internal_kv_del(self, key: bytes, *, namespace: bytes) -> None:
        with self._lock:
            self.records.pop(key, None)

    def _internal_kv_list(self, prefix: bytes, *, namespace: bytes) -> list[bytes]:
        with self._lock:
            return [key for key in self.records if key.startswith(prefix)]


class Cluster:
    """The actors that run, and what their roles know."""

    def __init__(self) -> None:
        self.store = Store()
        #: The names of the actors that run.
        self.running: set[str] = set()
        #: By ensemble and index, how far replicas have come, and what they say if they have left.
        self.replicas: dict[tuple[str, int], int] = {}
        self.left: dict[tuple[str, int], str] = {}
        #: Those that do not answer when they are asked for their state.
        self.silent: set[int] = set()
        #: What replicas were given to begin with.
        self.seeds: dict[str, bytes] = {}
        self._hooks: dict[str, Callable[[], None]] = {}

    def at(self, point: str, do: Callable[[], None]) -> None:
        """Do this once, when anybody comes to a point: start, started, seed, seeded, leave, survey."""
        self._hooks[point] = do

    def reach(self, point: str) -> None:
        """Somebody is at this point."""
        self._hooks.pop(point, lambda: None)()

    def lives_of(self, name: str) -> set[str]:
        """The lives of an ensemble that any actors run of."""
        return {actor.split(":")[2] for actor in self.running if actor.startswith(f"{name}:")}

    # In the place of functions of the package.

    def start_members(self, plan: Plan, size: Size, nodes: Mapping[int, str], until_s: float) -> list[tuple[Role, int]]:
        self.reach("start")
        members = actors.members_of(plan, size)
        self.running |= {plan.actor_name(role, index) for role, index in members}
        self.reach("started")
        return members

    def describe(self, plan: Plan, members: list[Key], timeout_s: float = 1.0) -> Described:
        described = Described({}, {})
        for role, index in members:
            if plan.actor_name(role, index) not in self.running or not isinstance(index, int):
                continue
            if role is Role.REPLICA and (plan.ensemble, index) in self.left:
                described.faults[role, index] = self.left[plan.ensemble, index]
                continue
            member = Member(role, index, 1000 + index)
            slot = self.replicas.get((plan.ensemble, index), 0) if role is Role.REPLICA else 0
            described.reports[role, index] = MemberReport(member, Address("h", 1), "n", 1, applied_slot=slot)
        return described

    def snapshot_of(self, plan: Plan, index: int, applied_slot: int, timeout_s: float) -> bytes:
        slot = self.replicas.get((plan.ensemble, index), 0)
        if index in self.silent or slot < applied_slot:
            raise ray.exceptions.GetTimeoutError("Get timed out: some object(s) not ready.")
        return state(plan.ensemble, slot)

    def seed(self, plan: Plan, size: Size, snapshot: bytes, timeout_s: float) -> None:
        self.reach("seed")
        self.seeds[plan.ensemble] = snapshot
        self.reach("seeded")

    def all_names(self, name: str) -> list[str]:
        return sorted(actor for actor in self.running if actor.startswith(f"{name}:"))

    def take_leave(self, plan: Plan) -> list[Any]:
        self.reach("leave")
        return []


def state(of: str, slot: int) -> bytes:
    """A snapshot of an ensemble at a slot."""
    executor = Executor(of)
    executor.next_slot = slot
    return bytes(executor.snapshot())


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster where nothing runs yet."""
    it = Cluster()
    monkeypatch.setattr(genesis, "internal_kv", it.store)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(building, "start_members", it.start_members)
    monkeypatch.setattr(building, "_take_leave", it.take_leave)
    monkeypatch.setattr(actors, "describe", it.describe)
    monkeypatch.setattr(actors, "snapshot_of", it.snapshot_of)
    monkeypatch.setattr(actors, "seed", it.seed)
    monkeypatch.setattr(actors, "kill", it.running.discard)
    monkeypatch.setattr(actors, "all_names", it.all_names)
    monkeypatch.setattr(actors, "gateways_of", lambda _: [])
    monkeypatch.setattr(placement, "all_names", lambda _: [])
    client = SimpleNamespace(wait_until_open=lambda _: None, call=lambda *_, **__: [])
    for module in (ensemble, recovery):
        monkeypatch.setattr(module, "detach", lambda _: None)
        monkeypatch.setattr(
            module, "attachment_to", lambda name, *_: SimpleNamespace(client=client, plan=genesis.find_plan(name))
        )
    return it


class Elsewhere:
    """Another process, which is a thread here; its error is raised by ``join``."""

    def __init__(self, does: Callable[[], Any]) -> None:
        self._does = does
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._does()
        except BaseException as error:
            self._error = error

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error


class Stop:
    """A point where somebody stands still until he is let go on."""

    def __init__(self) -> None:
        self._come, self._go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self._come.set()
        assert self._go.wait(PATIENCE_S)

    def wait(self) -> None:
        """Until somebody is there."""
        assert self._come.wait(PATIENCE_S)

    def go_on(self) -> None:
        """Let him go on."""
        self._go.set()
