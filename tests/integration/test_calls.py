"""The first page of the manual: create, call in three ways, find, list, delete."""

from __future__ import annotations

import asyncio

import pytest
import ray

import concoord_ray as concoord
from tests.integration.samples import Call, Journal, Tally, every_path

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ensemble")]


def test_the_example_of_the_design() -> None:
    hits = Tally.options(name="hits", get_if_exists=True).remote(10)
    assert ray.get(hits.increment.remote()) == 11
    assert hits.increment() == 12
    assert asyncio.run(hits.increment.aio()) == 13
    assert concoord.get("hits").get() == 13
    assert ray.get(concoord.get("hits").get.remote()) == 13


@every_path
def test_a_call_is_the_same_on_every_path(call: Call) -> None:
    tally = Tally.remote(5)
    assert call(tally.increment) == 6
    assert call(tally.increment, 10) == 16
    assert call(tally.increment, by=4) == 20
    assert call(tally.get) == 20


@every_path
def test_results_and_arguments_may_be_any_picklable_value(call: Call) -> None:
    values = (None, 1, 2.5, "text", b"bytes", [1, [2]], {"a": {"b": (1, 2)}}, {3, 4}, 1 << 100, 3 + 4j)
    assert call(Journal.remote().echo, *values, key=values) == (values, {"key": values})


def test_the_three_paths_see_each_others_effects_at_once() -> None:
    tally = Tally.remote()
    for n in range(20):
        assert ray.get(tally.increment.remote()) == 3 * n + 1
        assert tally.get() == 3 * n + 1
        assert tally.increment() == 3 * n + 2
        assert ray.get(tally.get.remote()) == 3 * n + 2
        assert asyncio.run(tally.increment.aio()) == 3 * n + 3
        assert asyncio.run(tally.get.aio()) == 3 * n + 3


def test_many_coroutines_of_one_loop_call_at_once() -> None:
    tally = Tally.remote()

    async def main() -> list[int]:
        return list(await asyncio.gather(*(tally.increment.aio() for _ in range(500))))

    assert asyncio.run(main()) == list(range(1, 501))


def test_a_name_finds_the_object() -> None:
    made = Journal.options(name="found by name").remote("first")
    found = concoord.get("found by name")
    assert found == made
    assert hash(found) == hash(made)
    assert found.name == made.name == "found by name"
    assert found.all() == ["first"]
    assert "found by name" in concoord.list_objects()
    assert "Journal" in repr(found)
    assert "found by name" in repr(found)


def test_an_object_without_a_name_is_not_listed() -> None:
    before = concoord.list_objects()
    made = Tally.remote()
    assert made.name is None
    assert concoord.list_objects() == before
    assert made != Tally.remote()


def test_names_are_listed_in_order_of_creation() -> None:
    names = ["listed b", "listed a", "listed c"]
    for name in names:
        Tally.options(name=name).remote()
    assert [name for name in concoord.list_objects() if name.startswith("listed ")] == names


def test_a_taken_name_is_refused_with_advice() -> None:
    Tally.options(name="taken").remote(1)
    with pytest.raises(concoord.ObjectExists, match=r"'taken'.*get_if_exists"):
        Tally.options(name="taken").remote(2)
    assert concoord.get("taken").get() == 1


def test_get_if_exists_shares_the_object_that_is_there() -> None:
    first = Tally.options(name="shared", get_if_exists=True).remote(7)
    second = Tally.options(name="shared", get_if_exists=True).remote(1000)
    assert first == second
    assert second.get() == 7


def test_get_if_exists_without_a_name_is_a_mistake() -> None:
    with pytest.raises(concoord.ConfigurationError, match="needs a name"):
        Tally.options(get_if_exists=True)


def test_a_name_that_nobody_has_is_no_such_object() -> None:
    with pytest.raises(concoord.NoSuchObject, match=r"'nobody'.*list_objects"):
        concoord.get("nobody")
    with pytest.raises(concoord.NoSuchObject):
        concoord.delete("nobody")


@pytest.mark.parametrize("by_handle", [True, False], ids=["by handle", "by name"])
def test_a_deleted_object_is_gone_and_its_name_is_free(by_handle: bool) -> None:
    name = f"deleted {by_handle}"
    old = Tally.options(name=name).remote(1)
    concoord.delete(old if by_handle else name)
    assert name not in concoord.list_objects()
    for call in (old.increment, old.get):
        with pytest.raises(concoord.NoSuchObject):
            call()
        with pytest.raises(concoord.NoSuchObject):
            ray.get(call.remote())
    with pytest.raises(concoord.NoSuchObject):
        concoord.delete(old)
    new = Tally.options(name=name).remote(2)
    assert new.get() == 2
    assert new != old


def test_deleting_answers_those_who_wait_in_the_object() -> None:
    semaphore = concoord.Semaphore.remote(0)
    waiting = semaphore.acquire.remote()
    assert ray.wait([waiting], timeout=0.5) == ([], [waiting])
    concoord.delete(semaphore)
    with pytest.raises(concoord.NoSuchObject):
        ray.get(waiting, timeout=30)


def test_private_and_unknown_methods_are_attribute_errors_at_once() -> None:
    tally = Tally.remote()
    for name in ("incremnt", "_value", "value"):
        with pytest.raises(AttributeError, match=name):
            getattr(tally, name)


def test_a_replicated_class_is_no_local_class_but_has_one() -> None:
    with pytest.raises(TypeError, match=r"TallyState\.remote"):
        Tally(1)
    assert Tally.__wrapped__(3).increment() == 4


def test_an_object_may_be_created_from_a_coroutine() -> None:
    async def main() -> int:
        tally = await Tally.aio(4)
        result: int = await tally.increment.aio()
        return result

    assert asyncio.run(main()) == 5


def test_the_shipped_counter_keeps_concoords_names() -> None:
    counter = concoord.Counter.remote(10)
    assert counter.increment() == 11
    assert counter.decrement(5) == 6
    assert counter.getvalue() == 6


class ClockState:
    """Uses the replicated time and randomness."""

    def look(self) -> tuple[float, float]:
        return concoord.now(), concoord.random().random()


def test_time_and_randomness_inside_of_a_method_are_replicated_values() -> None:
    clock = concoord.replicated(ClockState).remote()
    times, draws = zip(*(clock.look() for _ in range(20)), strict=True)
    assert list(times) == sorted(times)
    assert len(set(draws)) == 20
    with pytest.raises(RuntimeError, match="inside a method"):
        concoord.now()
    with pytest.raises(RuntimeError, match="inside a method"):
        concoord.random()
