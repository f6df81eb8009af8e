"""The modelled disk: what a crash keeps and loses, and the enumeration of crash points."""

from __future__ import annotations

import pytest

from tests.sim.host import Crashed, Host, HostState
from tests.sim.store import Recovered, Store, StoreProfile, Survival
from tests.sim.world import World


def build(seed: int = 1, profile: StoreProfile | None = None) -> tuple[World, Host, Store]:
    world = World(seed, store_profile=profile)
    host = world.host("a")
    return world, host, world.stores["a"]


def write_three(store: Store, reports: list[OSError | None]) -> None:
    """Two records synced, the third not yet."""
    store.append(b"one")
    store.append(b"two")
    store.sync(reports.append)
    store.append(b"three")


def test_a_synced_record_survives_and_an_unsynced_one_may_not() -> None:
    found: set[tuple[bytes, ...]] = set()
    for seed in range(30):
        world, host, store = build(seed)
        reports: list[OSError | None] = []
        write_three(store, reports)
        world.run(1.0)
        assert reports == [None]
        assert store.durable == (b"one", b"two")
        assert store.records == (b"one", b"two", b"three")
        host.crash()
        found.add(store.recover().records)
    assert found == {(b"one", b"two"), (b"one", b"two", b"three")}


def test_a_crash_before_the_sync_ends_keeps_some_prefix_and_reports_nothing() -> None:
    found: set[tuple[bytes, ...]] = set()
    for seed in range(60):
        world, host, store = build(seed)
        reports: list[OSError | None] = []
        write_three(store, reports)
        host.crash()
        world.run(1.0)
        assert reports == []
        found.add(store.recover().records)
    everything = (b"one", b"two", b"three")
    assert found == {everything[:length] for length in range(4)}


@pytest.mark.parametrize(("survival", "kept"), [(Survival.NOTHING, ()), (Survival.EVERYTHING, (b"x", b"y"))])
def test_survival_can_be_fixed(survival: Survival, kept: tuple[bytes, ...]) -> None:
    _, host, store = build(profile=StoreProfile(survival=survival))
    store.append(b"x")
    store.append(b"y")
    host.crash()
    assert store.recover() == Recovered(kept, None)


def test_the_first_lost_record_may_be_torn() -> None:
    _, host, store = build(profile=StoreProfile(survival=Survival.NOTHING, torn_probability=1.0))
    store.append(b"a record")
    host.crash()
    recovered = store.recover()
    assert recovered.records == ()
    assert recovered.torn is not None
    assert b"a record".startswith(recovered.torn)
    assert len(recovered.torn) < len(b"a record")
    assert store.recover().torn is None


def test_a_replaced_log_is_old_or_new_and_never_between() -> None:
    found: set[tuple[bytes, ...]] = set()
    for seed in range(40):
        world, host, store = build(seed)
        store.append(b"old")
        store.sync(lambda error: None)
        world.run(1.0)
        store.replace([b"new", b"er"])
        host.crash()
        found.add(store.recover().records)
    assert found == {(b"old",), (b"new", b"er")}


def test_syncs_report_in_the_order_in_which_they_began() -> None:
    for seed in range(20):
        world, _, store = build(seed, StoreProfile(stall_probability=0.5))
        durable_at_report: list[int] = []
        for number in range(10):
            store.append(bytes([number]))
            store.sync(lambda error, store=store, seen=durable_at_report: seen.append(len(store.durable)))  # type: ignore[misc]
        world.run(60.0)
        assert durable_at_report == list(range(1, 11))


def test_after_a_failed_fsync_nothing_becomes_durable() -> None:
    world, host, store = build(profile=StoreProfile(sync_failure_probability=1.0, survival=Survival.NOTHING))
    reports: list[OSError | None] = []
    store.append(b"x")
    store.sync(reports.append)
    world.run(1.0)
    assert isinstance(reports[0], OSError)
    assert store.durable == ()
    host.crash()
    assert store.recover().records == ()


def test_a_retried_fsync_lies() -> None:
    world, host, store = build(profile=StoreProfile(survival=Survival.NOTHING, sync_failure_probability=0.5))
    reports: list[OSError | None] = []
    store.append(b"x")
    for _ in range(20):
        store.sync(reports.append)
    world.run(1.0)
    first_failure = next(n for n, each in enumerate(reports) if each is not None)
    assert None in reports[first_failure:], "no later sync reported success"
    store.append(b"y")
    store.sync(reports.append)
    world.run(1.0)
    host.crash()
    assert b"y" not in store.recover().records


def test_a_paused_host_hears_of_its_sync_when_resumed() -> None:
    world, host, store = build()
    reports: list[OSError | None] = []
    store.append(b"x")
    store.sync(reports.append)
    host.pause()
    world.run(1.0)
    assert store.durable == (b"x",)
    assert reports == []
    host.resume()
    assert reports == [None]


def test_a_sync_of_an_earlier_life_is_not_reported_to_the_next() -> None:
    world, host, store = build()
    reports: list[OSError | None] = []
    store.append(b"x")
    store.sync(reports.append)
    host.crash()
    host.restart()
    world.run(1.0)
    assert reports == []


def test_every_step_can_be_the_one_that_crashes() -> None:
    def scenario(crash_at_step: int | None) -> tuple[int, tuple[bytes, ...], bool, HostState]:
        world, host, store = build(profile=StoreProfile(survival=Survival.NOTHING))
        store.crash_at_step = crash_at_step
        sent: list[bool] = []

        def role() -> None:
            store.append(b"promise")
            store.sync(lambda error: sent.append(error is None))

        host.dispatch(role)
        world.run(1.0)
        return store.steps, store.recover().records, sent == [True], host.state

    assert scenario(None) == (4, (b"promise",), True, HostState.UP)
    assert [scenario(step)[1:3] for step in range(1, 5)] == [
        ((), False),  # instead of the append
        ((), False),  # instead of the sync
        ((), False),  # inside it
        ((b"promise",), False),  # durable, but nobody was told: between persist and send
    ]
    assert all(scenario(step)[3] is HostState.DOWN for step in range(1, 5))


def test_a_crash_outside_of_a_dispatch_reaches_the_caller() -> None:
    _, host, store = build()
    store.crash_at_step = 1
    with pytest.raises(Crashed):
        store.append(b"x")
    assert host.state is HostState.DOWN


def test_a_wiped_disk_is_empty() -> None:
    world, host, store = build()
    store.append(b"x")
    store.sync(lambda error: None)
    world.run(1.0)
    host.crash()
    store.wipe()
    assert store.recover() == Recovered((), None)
    host.restart()
    store.append(b"y")
    store.sync(lambda error: None)
    world.run(1.0)
    assert store.durable == (b"y",)
