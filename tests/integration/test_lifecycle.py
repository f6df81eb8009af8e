"""Ensembles come and go: init, attach, shutdown, and what becomes of handles."""

from __future__ import annotations

import threading
import time

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import actors, building, genesis
from tests.integration.conftest import INIT_TIMEOUT_S, MakeEnsemble
from tests.integration.drivers import Drivers
from tests.integration.samples import Tally

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]


def test_init_again_attaches_and_the_first_settings_hold(own_ensemble: MakeEnsemble) -> None:
    first = own_ensemble(acceptors=1, replicas=2)
    second = own_ensemble(acceptors=3, replicas=3, session_ttl_s=99)
    assert second.id == first.id
    assert second.config == first.config
    assert second.config.replicas == 2
    assert len(first.status().replicas) == 2


def test_init_at_once_from_several_processes_gives_one_ensemble(drivers: Drivers) -> None:
    source = """
    import sys, time
    print("ready", flush=True)
    while time.time() < at_s:
        time.sleep(0.001)
    ensemble = concoord.init("raced", acceptors=3, replicas=2, timeout_s=patience_s)
    counter = concoord.Counter.options(name="counter", ensemble="raced", get_if_exists=True).remote()
    counter.increment()
    print(ensemble.id)
    """
    try:
        racing = [drivers.start(source, at_s=time.time() + 8, patience_s=INIT_TIMEOUT_S) for _ in range(3)]
        assert [driver.line() for driver in racing] == ["ready"] * 3
        ids = {driver.line(INIT_TIMEOUT_S) for driver in racing}
        for driver in racing:
            driver.finish()
        assert len(ids) == 1
        assert concoord.get("counter", ensemble="raced").getvalue() == 3
        status = concoord.status("raced")
        assert status.id in ids
        assert [len(status.acceptors), len(status.replicas), len(status.registries)] == [3, 2, 1]
        assert all(member.alive and member.in_view for member in (*status.acceptors, *status.replicas))
    finally:
        concoord.shutdown("raced")


def test_shutdown_leaves_nothing_behind(own_ensemble: MakeEnsemble) -> None:
    ensemble = own_ensemble(acceptors=1, replicas=1)
    Tally.options(ensemble=ensemble.name).remote().increment()
    plan = genesis.find_plan(ensemble.name)
    assert plan is not None
    assert actors.actor_names(plan)
    ensemble.shutdown()
    assert actors.actor_names(plan) == []
    assert genesis.find_plan(ensemble.name) is None
    assert plan.group_name not in {group["name"] for group in _live_groups()}
    concoord.shutdown(ensemble.name)  # Again, which does nothing.


def test_after_shutdown_calls_fail_with_advice(own_ensemble: MakeEnsemble) -> None:
    ensemble = own_ensemble(acceptors=1, replicas=1)
    tally = Tally.options(name="t", ensemble=ensemble.name).remote()
    tally.increment()
    ensemble.shutdown()
    for call in (tally.increment, tally.increment.remote, tally.get, ensemble.status):
        with pytest.raises(concoord.ConfigurationError, match=r"no ensemble called.*concoord\.init"):
            call()


def test_a_new_ensemble_of_an_old_name_does_not_answer_for_old_handles(own_ensemble: MakeEnsemble) -> None:
    old = own_ensemble("again", acceptors=1, replicas=1)
    tally = Tally.options(name="t", ensemble="again").remote(5)
    old.shutdown()
    new = own_ensemble("again", acceptors=1, replicas=1)
    assert new.id != old.id
    assert concoord.list_objects(ensemble="again") == []
    for call in (tally.increment, tally.increment.remote, tally.get):
        with pytest.raises(concoord.NoSuchObject, match=r"shut down.*concoord\.get"):
            call()
    assert Tally.options(name="t", ensemble="again").remote(1).increment() == 2


def test_shutdown_by_another_process_ends_our_calls(own_ensemble: MakeEnsemble, drivers: Drivers) -> None:
    ensemble = own_ensemble(acceptors=1, replicas=1, quorum_timeout_s=3)
    semaphore = concoord.Semaphore.options(ensemble=ensemble.name).remote(0)
    parked = semaphore.acquire.remote()
    assert ray.wait([parked], timeout=0.3)[0] == []
    drivers.run("concoord.shutdown(name)", name=ensemble.name)
    with pytest.raises(concoord.OutcomeUnknown):
        ray.get(parked, timeout=30)
    with pytest.raises(concoord.ConcoordError):
        semaphore.release()


def test_nobody_begins_with_an_ensemble_that_is_being_stopped(own_ensemble: MakeEnsemble, drivers: Drivers) -> None:
    """Nor waits for it for ever, if whoever stopped it has died: it can be stopped again."""
    ensemble = own_ensemble(acceptors=1, replicas=1)
    plan = genesis.find_plan(ensemble.name)
    assert plan is not None
    genesis.mark_ending(plan)
    attach = "try: concoord.list_objects(ensemble=name)\nexcept concoord.ConfigurationError as error: print(error)"
    (told,) = drivers.run(attach, name=ensemble.name)
    assert "no ensemble called" in told
    with pytest.raises(concoord.ConfigurationError, match=r"being stopped.*concoord\.shutdown"):
        concoord.init(ensemble.name, timeout_s=0.5)
    stopping = threading.Timer(1.0, concoord.shutdown, [ensemble.name])
    stopping.start()
    try:
        assert concoord.init(ensemble.name, acceptors=1, replicas=1, timeout_s=INIT_TIMEOUT_S).id != ensemble.id
    finally:
        stopping.join()


def test_who_stops_an_ensemble_late_leaves_the_next_one_alone(own_ensemble: MakeEnsemble) -> None:
    old = own_ensemble("late", acceptors=1, replicas=1)
    plan = genesis.find_plan(old.name)
    assert plan is not None
    concoord.shutdown(old.name)
    new = own_ensemble("late", acceptors=1, replicas=1)
    building.destroy(plan)
    assert concoord.list_objects(ensemble=new.name) == []
    found = genesis.find_plan(new.name)
    assert found is not None
    assert found.ensemble == new.id
    assert genesis.is_running(found)


def test_what_does_not_exist_is_told_with_what_does(own_ensemble: MakeEnsemble) -> None:
    ensemble = own_ensemble(acceptors=1, replicas=1)
    for look in (
        lambda: concoord.get("x", ensemble="misspelt"),
        lambda: concoord.list_objects(ensemble="misspelt"),
        lambda: concoord.status("misspelt"),
    ):
        with pytest.raises(concoord.ConfigurationError, match=rf"'misspelt'.*{ensemble.name}"):
            look()


def test_an_object_of_another_class_is_not_shared(ensemble: concoord.Ensemble) -> None:
    concoord.Counter.options(name="only-a-counter", get_if_exists=True).remote(7)
    with pytest.raises(concoord.ObjectExists, match=r"'only-a-counter' is a concoord_ray\..*Counter, not a .*Lock"):
        concoord.Lock.options(name="only-a-counter", get_if_exists=True).remote()
    assert concoord.Counter.options(name="only-a-counter", get_if_exists=True).remote().getvalue() == 7
    concoord.delete("only-a-counter")


def test_settings_that_cannot_work_are_refused_before_anything_starts() -> None:
    for settings, complaint in (
        ({"acceptors": 0}, "acceptors=0"),
        ({"placement": "EVERYWHERE"}, "STRICT_SPREAD"),
        ({"session_ttl_s": -1}, "session_ttl_s"),
        ({"no_such_setting": 1}, "no_such_setting"),
        ({"replicas": "3"}, "int"),
        ({"storage": "file:///data"}, "storage"),
        ({"storage": 5}, "storage=5: give the path of a directory"),
        ({"acceptors": 2**70}, "at most 99"),
        ({"name": 5}, "name=5: use 1 to 64 letters"),
        ({"name": "white space"}, "name"),
    ):
        with pytest.raises(concoord.ConfigurationError, match=complaint):
            concoord.init(**{"name": "refused", **settings})  # type: ignore[arg-type]
    assert "refused" not in genesis.plan_names()


def test_members_that_cannot_be_placed_are_told_in_time_and_nothing_is_left() -> None:
    with pytest.raises(concoord.ConfigurationError, match=r"STRICT_SPREAD.*nodes"):
        concoord.init("unplaceable", placement="STRICT_SPREAD", timeout_s=3)
    assert "unplaceable" not in genesis.plan_names()
    assert "concoord:unplaceable" not in " ".join(str(group["name"]) for group in _live_groups())


def test_without_ray_there_is_a_clear_error(drivers: Drivers) -> None:
    printed = drivers.run(
        """
        import concoord_ray as concoord
        for look in (lambda: concoord.get("x"), concoord.list_objects, concoord.status):
            try:
                look()
            except concoord.ConfigurationError as error:
                print("ray.init()" in str(error))
        concoord.shutdown()
        """,
        connect=False,
    )
    assert printed == ["True"] * 3


def test_ray_shutdown_and_init_in_one_process(drivers: Drivers, own_ensemble: MakeEnsemble) -> None:
    ensemble = own_ensemble(acceptors=1, replicas=1)
    printed = drivers.run(
        """
        import pickle
        counter = concoord.Counter.options(name="c", ensemble=name).remote()
        print(counter.increment(), ray.get(counter.increment.remote()))
        address = ray.get_runtime_context().gcs_address
        ray.shutdown()
        try:
            counter.increment()
        except concoord.ConfigurationError as error:
            print("ray.init()" in str(error))
        ray.init(address=address, log_to_driver=False)
        print(counter.increment(), ray.get(counter.increment.remote()))
        print(pickle.loads(pickle.dumps(counter)).increment())
        """,
        name=ensemble.name,
    )
    assert printed == ["1 2", "True", "3 4", "5"]


def test_the_first_remote_starts_ray_and_the_ensemble(drivers: Drivers) -> None:
    """The shortest program there is: no ray.init(), no concoord.init()."""
    driver = drivers.start(
        """
        import os
        os.environ.pop("RAY_ADDRESS", None)
        import concoord_ray as concoord

        counter = concoord.Counter.options(name="c", get_if_exists=True).remote(10)
        print(counter.increment())
        concoord.shutdown()
        """,
        connect=False,
    )
    assert driver.finish(INIT_TIMEOUT_S) == ["11"]


def _live_groups() -> list[dict[str, object]]:
    table: dict[str, dict[str, object]] = ray.util.placement_group_table()
    return [group for group in table.values() if group["state"] != "REMOVED"]
