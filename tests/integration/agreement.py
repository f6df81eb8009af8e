"""Whether the replicas of an ensemble have come to the same state, looked at from outside."""

from __future__ import annotations

import concoord_ray as concoord
from concoord_ray import actors, genesis
from concoord_ray.rsm.digest import digest
from concoord_ray.rsm.executor import Executor
from tests.integration.casualties import settled


def assert_replicas_agree(name: str) -> None:
    """Compare the objects in a snapshot of every replica, taken when it has executed all that the leader has."""
    plan = genesis.find_plan(name)
    assert plan is not None
    concoord.list_objects(ensemble=name)
    replicas = settled(name).replicas
    slot = max(replica.applied_slot or 0 for replica in replicas)
    states = []
    for replica in replicas:
        executor = Executor(plan.ensemble, plan.config)
        executor.restore(actors.snapshot_of(plan, replica.index, slot, 60.0))
        objects = executor._objects.instances()
        states.append({info.object_id: digest(instance, budget=1_000_000, seed=0) for info, instance in objects})
    assert all(state == states[0] for state in states)
