"""Handles in other processes: tasks, actors, other drivers, forked children."""

from __future__ import annotations

import os
import pickle
from typing import Any

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import Handle
from tests.integration.conftest import MakeEnsemble
from tests.integration.drivers import Drivers
from tests.integration.samples import Journal, Tally, by_aio, by_direct, by_remote

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ensemble")]


@ray.remote
def use_in_a_task(tally: Handle[Any]) -> tuple[int, int]:
    return ray.get(tally.increment.remote()), tally.increment()


@ray.remote
def find_in_a_task(name: str) -> int:
    result: int = concoord.get(name).increment()
    return result


@ray.remote
def make_in_a_task(name: str) -> Handle[Any]:
    return Journal.options(name=name).remote("made in a task")


class Worker:
    def __init__(self, tally: Handle[Any]) -> None:
        self.tally = tally

    def work(self) -> int:
        result: int = self.tally.increment()
        return result

    def work_by_ray(self) -> int:
        result: int = ray.get(self.tally.increment.remote())
        return result


class AsyncWorker:
    async def work(self, tally: Handle[Any]) -> tuple[int, int]:
        return await tally.increment.aio(), await tally.increment.remote()


def test_a_handle_survives_pickling() -> None:
    tally = Tally.options(name="pickled").remote(3)
    copy = pickle.loads(pickle.dumps(tally))
    assert copy == tally
    assert copy.name == "pickled"
    assert copy.increment() == 4
    assert tally.get() == 4


def test_a_handle_works_in_a_task() -> None:
    tally = Tally.remote()
    assert ray.get(use_in_a_task.remote(tally), timeout=60) == (1, 2)
    assert tally.get() == 2


def test_a_name_is_found_in_a_task() -> None:
    Tally.options(name="found in a task").remote(5)
    assert ray.get(find_in_a_task.remote("found in a task"), timeout=60) == 6


def test_an_object_made_in_a_task_is_there_for_all() -> None:
    journal = ray.get(make_in_a_task.remote("made elsewhere"), timeout=60)
    assert journal == concoord.get("made elsewhere")
    assert journal.all() == ["made in a task"]


def test_a_handle_works_in_actors_of_both_kinds() -> None:
    tally = Tally.remote()
    worker: Any = ray.remote(Worker).remote(tally)
    another: Any = ray.remote(AsyncWorker).remote()
    assert ray.get(worker.work.remote(), timeout=60) == 1
    assert ray.get(worker.work_by_ray.remote(), timeout=60) == 2
    assert ray.get(another.work.remote(tally), timeout=60) == (3, 4)
    for actor in (worker, another):
        ray.kill(actor)


def test_many_processes_count_exactly() -> None:
    tally = Tally.remote()
    answers = ray.get([use_in_a_task.remote(tally) for _ in range(20)], timeout=90)
    assert sorted(n for pair in answers for n in pair) == list(range(1, 41))


def test_another_driver_uses_what_this_one_made_and_this_one_what_it_made(drivers: Drivers) -> None:
    Tally.options(name="crossing").remote(100)
    printed = drivers.run(
        """
        tally = concoord.get("crossing")
        print(tally.increment(), ray.get(tally.increment.remote()))

        @concoord.replicated
        class Stack:
            def __init__(self):
                self.items = []
            def push(self, item):
                self.items.append(item)
                return len(self.items)

        print(Stack.options(name="of a script").remote().push("by the script"))
        """
    )
    assert printed == ["101 102", "1"]
    # The class was the script's own, and the script has ended.
    assert concoord.get("of a script").push("by us") == 2
    assert "of a script" in concoord.list_objects()


def test_two_scripts_may_have_classes_of_one_name(drivers: Drivers) -> None:
    source = """
    @concoord.replicated
    class Greeter:
        def greet(self):
            return greeting

    greeter = Greeter.options(name="greeter " + greeting).remote()
    print(greeter.greet())
    """
    assert drivers.run(source, greeting="hello") == ["hello"]
    assert drivers.run(source, greeting="goodbye") == ["goodbye"]
    assert concoord.get("greeter hello").greet() == "hello"
    assert concoord.get("greeter goodbye").greet() == "goodbye"


def test_an_error_of_a_class_that_only_a_script_had_still_arrives(drivers: Drivers) -> None:
    drivers.run(
        """
        class Strange(Exception):
            def __init__(self, *, why):
                super().__init__("strange: " + why)
                self.why = why

        @concoord.replicated
        class Stranger:
            def act(self):
                raise Strange(why="no reason")

        Stranger.options(name="stranger").remote()
        """
    )
    stranger = concoord.get("stranger")
    for call in (by_direct, by_remote, by_aio):
        with pytest.raises(Exception, match="strange: no reason") as caught:
            call(stranger.act)
        assert "Strange" in type(caught.value).__name__
        assert caught.value.why == "no reason"  # type: ignore[attr-defined]


def test_an_ensemble_outlives_the_driver_that_started_it(drivers: Drivers) -> None:
    start = """
    concoord.init("outliving", acceptors=1, replicas=1)
    counter = concoord.Counter.options(name="counter", ensemble="outliving").remote(5)
    counter.increment()
    """
    use = """
    print(concoord.get("counter", ensemble="outliving").increment())
    print(concoord.status("outliving").leader.alive)
    """
    try:
        drivers.run(start)
        assert drivers.run(use) == ["7", "True"]
        assert concoord.get("counter", ensemble="outliving").getvalue() == 7
    finally:
        concoord.shutdown("outliving")


def test_a_forked_child_calls_on_its_own(drivers: Drivers) -> None:
    printed = drivers.run(
        """
        import os
        counter = concoord.Counter.remote()
        counter.increment()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for n in range(2, 12):
                    assert counter.increment() == n
                try:
                    counter.increment.remote()
                except concoord.ConfigurationError as error:
                    assert "fork" in str(error)
                    code = 0
            finally:
                os._exit(code)
        print(os.waitpid(child, 0)[1])
        print(counter.increment(), ray.get(counter.increment.remote()))
        """
    )
    assert printed == ["0", "12 13"]


def test_a_handle_in_replicated_state_comes_back_as_an_error_not_as_a_copy() -> None:
    """What stands for an object inside of the ensemble is the object; it does not travel out by value."""
    journal = Journal.remote()
    assert journal.add(Tally.remote(1)) == 1
    entries = journal.all()
    assert [type(entry).__name__ for entry in entries] == ["TallyState"]


def test_handles_of_a_private_ensemble_reach_it_from_tasks(own_ensemble: MakeEnsemble) -> None:
    private = own_ensemble(acceptors=1, replicas=1)
    tally = Tally.options(name="private", ensemble=private.name).remote()
    assert ray.get(use_in_a_task.remote(tally), timeout=60) == (1, 2)
    assert "private" not in concoord.list_objects()
    assert concoord.list_objects(ensemble=private.name) == ["private"]
    assert os.getpid() not in {replica.pid for replica in private.status().replicas}
