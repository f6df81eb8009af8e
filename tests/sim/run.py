"""Running seeds: one run from its seed (and a plan of faults, if not its own), with its judgement."""

from __future__ import annotations

import traceback
from collections import Counter
from dataclasses import dataclass, field

from tests.sim.clock import Livelock
from tests.sim.faults import Nemesis, Plan, make_plan
from tests.sim.full_stack import FullStack
from tests.sim.invariants import Broken
from tests.sim.judgement import CalmSeasAreSmooth, Linearizable, MutualExclusion, NothingIsLeftHeld, RoundsAreComplete
from tests.sim.protocol import ProtocolOnly
from tests.sim.scenario import Kind, Scenario, draw

_SLICE_S = 0.1


@dataclass(slots=True)
class Outcome:
    """What became of one seed. Small enough to send between processes."""

    seed: int
    kind: Kind
    plan: Plan
    #: Empty if all is well.
    failure: str = ""
    invariant: str = ""
    trace_hash: str = ""
    tail: str = ""
    virtual_s: float = 0.0
    events: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        state = f"FAILED: {self.failure}" if self.failure else "ok"
        return f"{self.kind.value} seed {self.seed}: {state}"


class Liveness:
    """After all is healed a leader leads within ten election timeouts, and every call ends within ``patience_s``."""


def run(seed: int, kind: Kind, *, plan: Plan | None = None, full_trace: bool = False, tail_lines: int = 40) -> Outcome:
    """Simulate one seed, and judge it."""
    scenario = draw(seed, kind)
    cluster: FullStack | ProtocolOnly = (
        FullStack(scenario, full_trace=full_trace)
        if kind.has_clients
        else ProtocolOnly(scenario, full_trace=full_trace)
    )
    hosts = [host.name for host in cluster.hosts()]
    if plan is None:
        plan = make_plan(cluster.scheduler.stream("plan"), scenario.faults, hosts, scenario.partners)
    nemesis = Nemesis(cluster.network, cluster)
    outcome = Outcome(seed, kind, plan)
    try:
        cluster.start()
        nemesis.start(plan, scenario.faults.storm_s)
        cluster.world.run(scenario.faults.storm_s)
        cluster.network.calm()
        if isinstance(cluster, FullStack):
            _judge_full(cluster, scenario, outcome)
        else:
            _judge_protocol(cluster)
    except Broken as broken:
        outcome.failure, outcome.invariant = str(broken), broken.invariant
    except Livelock as livelock:
        outcome.failure, outcome.invariant = str(livelock), "Livelock"
    except Exception as error:  # The code under test failed in a way that no invariant foresees.
        outcome.failure, outcome.invariant = traceback.format_exc(), type(error).__name__
    finally:
        cluster.close()
    _measure(cluster, nemesis, outcome)
    if outcome.failure or full_trace:
        outcome.tail = cluster.world.trace.tail(tail_lines)
    return outcome


def _measure(cluster: FullStack | ProtocolOnly, nemesis: Nemesis, outcome: Outcome) -> None:
    outcome.trace_hash = cluster.world.trace.digest()
    outcome.virtual_s = cluster.scheduler.now_s
    outcome.events = cluster.scheduler.events
    outcome.faults = nemesis.counts
    outcome.counts.update(cluster.watch.counts)
    outcome.counts["views"] = len(cluster.watch.lineage.views) - 1
    outcome.counts["slots"] = len(cluster.watch.slots.decided)
    if isinstance(cluster, FullStack):
        outcome.counts["calls"] = cluster.record.calls
        outcome.counts.update({f"lost: {what}": count for what, count in cluster.record.lost.items()})


def _await_leader(cluster: FullStack | ProtocolOnly) -> None:
    limit_s = cluster.scenario.elections_until_leader * cluster.scenario.config.election_timeout_s
    for _ in range(round(limit_s / _SLICE_S)):
        if cluster.leaders:
            return
        cluster.world.run(_SLICE_S)
    raise Broken(Liveness(), f"no leader {limit_s:.1f} s after all was healed")


def _judge_protocol(cluster: ProtocolOnly) -> None:
    cluster.is_winding_down = True
    _await_leader(cluster)
    for _ in range(round(cluster.scenario.patience_s / _SLICE_S)):
        if cluster.is_settled():
            return
        cluster.world.run(_SLICE_S)
    raise Broken(Liveness(), f"not every replica has learned every decided slot: {cluster.progress()}")


def _judge_full(cluster: FullStack, scenario: Scenario, outcome: Outcome) -> None:
    cluster.is_winding_down = True
    _await_leader(cluster)
    _settle(cluster, scenario)
    cluster.audit()
    _settle(cluster, scenario)
    record, ended_ns = cluster.record, cluster.watch.ended_sessions_ns
    operations = record.operations(ended_ns.keys())
    for lock in ("lock", "rlock"):
        MutualExclusion(lock).check(record, ended_ns)
    NothingIsLeftHeld().check(operations)
    RoundsAreComplete().check(operations)
    linearizable = Linearizable()
    linearizable.check(operations)
    outcome.counts["undecided"] = linearizable.undecided.total()
    outcome.counts["expired"] = len(ended_ns)
    if scenario.is_calm:
        CalmSeasAreSmooth().check(record, cluster.watch.counts["elections"])


def _settle(cluster: FullStack, scenario: Scenario) -> None:
    for _ in range(round(scenario.patience_s / _SLICE_S)):
        is_over = not cluster.unfinished() and not cluster.unanswered() and not cluster.ghosts()
        if cluster.leaders and is_over:
            return
        cluster.world.run(_SLICE_S)
    waiting = "; ".join(f"{thread.name} waits for {thread.waits_for}" for thread in cluster.unfinished())
    what = waiting or f"{cluster.unanswered()} calls are not answered; ghosts of sessions: {cluster.ghosts()}"
    raise Broken(Liveness(), f"{scenario.patience_s:.0f} s after all was healed: {what}")
