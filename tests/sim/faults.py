"""A seeded nemesis: a plan of faults, made before the run from (seed, profile, hosts) alone, and its execution.

Because the plan is data, a failing seed can be printed and shrunk: run it again without this or that fault, until only
those remain that matter. Every plan ends with its storm; then all is healed, and the system must become live again.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Protocol

from tests.sim.host import Host, HostState
from tests.sim.network import Network


class FaultKind(Enum):
    """The values are the names of the weights in ``FaultProfile``."""

    PARTITION = "partition"
    MUTE = "mute"
    DEAFEN = "deafen"
    CLOG = "clog"
    PAUSE = "pause"
    CRASH = "crash"
    WIPE = "wipe"
    #: A crash, and something on the disk is spoilt meanwhile.
    DAMAGE = "damage"
    #: Everybody crashes at once.
    BLACKOUT = "blackout"
    CLOCK_JUMP = "clock_jump"
    WALL_STEP = "wall_step"
    CLOCK_DRIFT = "clock_drift"
    #: No fault, but as unwelcome in the midst of others.
    RESIZE = "resize"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultProfile:
    """How stormy it is. The kinds' fields are relative weights; zero means never."""

    storm_s: float = 20.0
    mean_interval_s: float = 1.0
    duration_min_s: float = 0.05
    duration_max_s: float = 5.0
    partition: float = 1.0
    mute: float = 0.5
    deafen: float = 0.5
    clog: float = 0.5
    pause: float = 1.0
    crash: float = 1.0
    wipe: float = 0.0
    damage: float = 0.0
    blackout: float = 0.0
    clock_jump: float = 0.3
    wall_step: float = 0.3
    clock_drift: float = 0.3
    resize: float = 0.0
    max_jump_s: float = 30.0
    max_drift_ppm: int = 100_000

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(f"{field.name}={getattr(self, field.name)}: must not be negative")
        if not (self.mean_interval_s > 0 and 0 < self.duration_min_s <= self.duration_max_s):
            raise ValueError(f"{self}: need mean_interval_s > 0 and 0 < duration_min_s <= duration_max_s")

    def weight(self, kind: FaultKind) -> float:
        return float(getattr(self, kind.value))


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: ``victims`` are host names, or what the cluster takes for one (of a clog: from, to); ``amount`` is
    seconds of a jump or ppm of drift.
    """

    at_s: float
    duration_s: float
    kind: FaultKind
    victims: tuple[str, ...]
    amount: float = 0.0

    def __str__(self) -> str:
        amount = f" by {self.amount:g}" if self.amount else ""
        return f"{self.at_s:9.3f} s  {self.kind.value} {', '.join(self.victims)}{amount} for {self.duration_s:.3f} s"


Plan = tuple[Fault, ...]


class Cluster(Protocol):
    """What the nemesis acts on. The cluster knows which losses its promises allow."""

    def hosts(self) -> Sequence[Host]: ...

    def victim(self, name: str) -> str:
        """The host that is meant, when the fault strikes: a plan may name a role, such as whoever leads then."""

    def may_crash(self, host: Host) -> bool:
        """Whether this crash stays within what the system promises to survive (a minority, say)."""

    def may_wipe(self, host: Host) -> bool:
        """The same for a crash that also loses the disk."""

    def members(self) -> Sequence[Host]:
        """The hosts that a blackout strikes."""

    def wipe(self, host: Host) -> None:
        """Lose the disk of a host that is down."""

    def damage(self, host: Host) -> None:
        """Spoil something on the disk of a host that is down."""

    def resize(self) -> None:
        """Ask for more or fewer acceptors and replicas."""

    def restart(self, host: Host) -> None:
        """Bring the host up and start its roles again."""


def make_plan(
    rng: random.Random, profile: FaultProfile, hosts: Sequence[str], partners: Sequence[tuple[str, ...]] = ()
) -> Plan:
    """Draw a plan: faults at exponential intervals until the storm ends, in time order.

    If there are ``partners``, half of the partitions cut off some of them together, and a third of the faults that have
    one victim strike the first of some.
    """
    kinds = [kind for kind in FaultKind if profile.weight(kind) > 0]
    plan: list[Fault] = []
    at_s = rng.expovariate(1 / profile.mean_interval_s)
    while at_s < profile.storm_s and kinds:
        kind = rng.choices(kinds, [profile.weight(each) for each in kinds])[0]
        # Short faults are as likely as long ones on a logarithmic scale: both find bugs, of different sorts.
        duration_s = profile.duration_min_s * (profile.duration_max_s / profile.duration_min_s) ** rng.random()
        victims, amount = _draw(rng, profile, kind, hosts, partners)
        plan.append(Fault(round(at_s, 6), round(duration_s, 6), kind, victims, amount))
        at_s += rng.expovariate(1 / profile.mean_interval_s)
    return tuple(plan)


def _draw(
    rng: random.Random,
    profile: FaultProfile,
    kind: FaultKind,
    hosts: Sequence[str],
    partners: Sequence[tuple[str, ...]],
) -> tuple[tuple[str, ...], float]:
    if kind in (FaultKind.RESIZE, FaultKind.BLACKOUT):
        return (), 0.0
    if kind is FaultKind.PARTITION and partners and rng.random() < 0.5:
        return rng.choice(partners), 0.0
    if kind is FaultKind.PARTITION:
        return tuple(rng.sample(list(hosts), rng.randint(1, max(1, len(hosts) // 2)))), 0.0
    if kind is FaultKind.CLOG:
        return tuple(rng.sample(list(hosts), min(2, len(hosts)))), 0.0
    strikes_partner = partners and rng.random() < 1 / 3
    victims = rng.choice(partners)[:1] if strikes_partner else (rng.choice(list(hosts)),)
    if kind is FaultKind.CLOCK_JUMP:
        return victims, round(rng.uniform(0, profile.max_jump_s), 6)
    if kind is FaultKind.WALL_STEP:
        return victims, round(rng.uniform(-profile.max_jump_s, profile.max_jump_s), 6)
    if kind is FaultKind.CLOCK_DRIFT:
        return victims, rng.randint(-profile.max_drift_ppm, profile.max_drift_ppm)
    return victims, 0.0


class Nemesis:
    """Carries out a plan. ``counts`` says what was done, and what was skipped as not possible at that moment."""

    def __init__(self, network: Network, cluster: Cluster) -> None:
        self._network = network
        self._cluster = cluster
        self._active: dict[int, Callable[[], None]] = {}
        self._next_fault = 0
        self._over = False
        self.counts: Counter[str] = Counter()

    def start(self, plan: Plan, storm_s: float) -> None:
        """Schedule the plan from now on, and the healing of everything after ``storm_s``."""
        for fault in plan:
            self._network.scheduler.after(fault.at_s, lambda fault=fault: self._strike(fault))  # type: ignore[misc]
        self._network.scheduler.after(storm_s, self.heal_all)

    def heal_all(self) -> None:
        """End every fault, restart who is down, and do no more harm."""
        self._over = True
        for number in list(self._active):
            self._end(number)
        for host in self._cluster.hosts():
            if host.state is HostState.DOWN:
                self._cluster.restart(host)
        self._network.links.repair_all()
        self._network.trace.log("nemesis", "all healed")

    def _strike(self, fault: Fault) -> None:
        if self._over:
            return
        undo = self._inflict(fault)
        self.counts[fault.kind.value if undo else f"skipped {fault.kind.value}"] += 1
        self._network.trace.log("nemesis", f"{'' if undo else 'skipped '}{fault}")
        if undo is not None:
            self._next_fault += 1
            number = self._next_fault
            self._active[number] = undo
            self._network.scheduler.after(fault.duration_s, lambda: self._end(number))

    def _end(self, number: int) -> None:
        undo = self._active.pop(number, None)
        if undo is not None:
            undo()

    def _inflict(self, fault: Fault) -> Callable[[], None] | None:
        """Do it; give back how to undo it, or None if it cannot be done now."""
        fault = replace(fault, victims=tuple(dict.fromkeys(map(self._cluster.victim, fault.victims))))
        hosts = {host.name: host for host in self._cluster.hosts()}
        if any(name not in hosts for name in fault.victims):
            raise ValueError(f"{fault}: no such host; there are {', '.join(hosts)}")
        if fault.kind in (FaultKind.PARTITION, FaultKind.MUTE, FaultKind.DEAFEN, FaultKind.CLOG):
            return self._inflict_on_links(fault, list(hosts))
        if fault.kind is FaultKind.RESIZE:
            self._cluster.resize()
            return _nothing
        if fault.kind is FaultKind.BLACKOUT:
            return self._black_out()
        host = hosts[fault.victims[0]]
        if fault.kind is FaultKind.PAUSE:
            return self._pause(host)
        if fault.kind in (FaultKind.CRASH, FaultKind.WIPE, FaultKind.DAMAGE):
            return self._crash(host, fault.kind)
        if fault.kind is FaultKind.CLOCK_JUMP:
            host.clock.jump(fault.amount)
            return _nothing
        if fault.kind is FaultKind.WALL_STEP:
            host.clock.step_wall(fault.amount)
            return _nothing
        host.clock.drift(int(fault.amount))
        return lambda: host.clock.drift(host.clock.own_drift_ppm)

    def _inflict_on_links(self, fault: Fault, hosts: list[str]) -> Callable[[], None] | None:
        links, rest = self._network.links, [name for name in hosts if name not in fault.victims]
        if not rest and fault.kind is not FaultKind.CLOG:
            return None
        if fault.kind is FaultKind.PARTITION:
            number = links.partition(fault.victims, rest)
        elif fault.kind is FaultKind.MUTE:
            number = links.cut((fault.victims[0], name) for name in rest)
        elif fault.kind is FaultKind.DEAFEN:
            number = links.cut((name, fault.victims[0]) for name in rest)
        else:
            number = links.clog([(fault.victims[0], fault.victims[-1])])
        return lambda: links.repair(number)

    def _pause(self, host: Host) -> Callable[[], None] | None:
        if host.state is not HostState.UP:
            return None
        host.pause()
        life = host.life
        return lambda: host.resume() if host.life == life else None

    def _crash(self, host: Host, kind: FaultKind) -> Callable[[], None] | None:
        may = self._cluster.may_crash if kind is FaultKind.CRASH else self._cluster.may_wipe
        if host.state is HostState.DOWN or not may(host):
            return None
        host.crash()
        if kind is FaultKind.WIPE:
            self._cluster.wipe(host)
        elif kind is FaultKind.DAMAGE:
            self._cluster.damage(host)
        return self._restart_of(host)

    def _black_out(self) -> Callable[[], None]:
        victims = [host for host in self._cluster.members() if host.state is not HostState.DOWN]
        for host in victims:
            host.crash()
        restarts = [self._restart_of(host) for host in victims]

        def undo() -> None:
            for restart in restarts:
                restart()

        return undo

    def _restart_of(self, host: Host) -> Callable[[], None]:
        life = host.life
        return lambda: self._cluster.restart(host) if host.state is HostState.DOWN and host.life == life else None


def _nothing() -> None:
    """The undoing of what cannot be undone."""


def shrink(plan: Plan, fails: Callable[[Plan], bool], max_runs: int = 200) -> Plan:
    """Leave out faults while the run still fails: first many at a time, then one by one (delta debugging).

    ``fails`` runs the simulation with a plan. At most ``max_runs`` of them.
    """
    chunk = max(1, len(plan) // 2)
    start = runs = 0
    while plan and runs < max_runs:
        if start >= len(plan):
            if chunk == 1:
                break
            chunk, start = max(1, chunk // 2), 0
            continue
        runs += 1
        shorter = plan[:start] + plan[start + chunk :]
        if fails(shorter):
            plan = shorter
        else:
            start += chunk
    return plan
