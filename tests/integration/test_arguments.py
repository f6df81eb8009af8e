"""Arguments as Ray takes them: ObjectRefs are resolved at the top level; handles are the objects themselves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import Handle
from tests.integration.conftest import INIT_TIMEOUT_S, MakeEnsemble
from tests.integration.samples import Call, Journal, Tally, every_path

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ensemble")]


@ray.remote
def slowly(value: Any) -> Any:
    return value


@ray.remote
def failing() -> None:
    raise ValueError("upstream failed")


class PairState:
    """Holds other objects, and calls them."""

    def __init__(self, left: Any, right: Any = None) -> None:
        self.left = left
        self.right = right

    def add_to_both(self, by: int) -> tuple[int, int]:
        return self.left.increment(by), self.right.increment(by)

    def kind_of(self, other: Any) -> str:
        return type(other).__name__

    def add_to(self, other: Any, by: int) -> int:
        result: int = other.increment(by)
        return result

    def add_to_all(self, others: dict[str, Any]) -> list[int]:
        return [other.increment() for other in others.values()]

    def same(self, other: Any) -> bool:
        return other is self.left

    def give_left(self) -> Any:
        return self.left


Pair = concoord.replicated(PairState)


@every_path
def test_refs_are_resolved_before_the_call(call: Call) -> None:
    journal = Journal.remote()
    assert call(journal.echo, ray.put(1), 2, key=slowly.remote([3]), other=4) == ((1, 2), {"key": [3], "other": 4})


@every_path
def test_a_ref_may_be_the_result_of_a_replicated_call(call: Call) -> None:
    first, second = Tally.remote(1), Tally.remote(100)
    assert call(second.increment, first.increment.remote()) == 102


@every_path
def test_the_same_ref_may_be_given_twice(call: Call) -> None:
    ref = ray.put("twice")
    assert call(Journal.remote().echo, ref, again=ref) == (("twice",), {"again": "twice"})


@every_path
def test_a_ref_that_failed_fails_the_call_and_the_method_does_not_run(call: Call) -> None:
    journal = Journal.remote()
    with pytest.raises(ValueError, match="upstream failed"):
        call(journal.add, failing.remote())
    assert journal.all() == []


@every_path
def test_a_ref_inside_of_an_argument_is_refused_with_advice(call: Call) -> None:
    journal = Journal.remote()
    with pytest.raises(TypeError, match="ObjectRef"):
        call(journal.add, [ray.put(1)])
    assert journal.all() == []


@every_path
def test_a_big_array_travels_as_a_ref(call: Call) -> None:
    blob = b"x" * 3_000_000
    args, _ = call(Journal.remote().echo, ray.put(blob))
    assert args == (blob,)


def test_a_constructor_takes_refs_too() -> None:
    assert Tally.remote(ray.put(5)).get() == 5  # type: ignore[arg-type]  # As for Ray, a ref is as good.
    assert Journal.remote(slowly.remote("first")).all() == ["first"]
    assert Tally.remote(value=ray.put(6)).get() == 6  # type: ignore[arg-type]

    async def main() -> Any:
        return await (await Tally.aio(ray.put(7))).get.aio()  # type: ignore[arg-type]

    assert asyncio.run(main()) == 7


@every_path
def test_a_handle_reaches_the_method_as_the_object(call: Call) -> None:
    left, right = Tally.remote(1), Tally.remote(10)
    pair = Pair.remote(left, right=right)
    assert call(pair.kind_of, left) == "TallyState"
    assert call(pair.same, left) is True
    assert call(pair.same, right) is False
    assert call(pair.add_to, left, by=5) == 6
    assert call(pair.add_to_all, {"l": left, "r": right}) == [7, 11]
    assert call(pair.add_to_both, 100) == (107, 111)
    assert (left.get(), right.get()) == (107, 111)


def test_a_handle_in_a_ref_reaches_the_method_as_the_object() -> None:
    tally = Tally.remote(1)
    pair = Pair.remote(None)
    assert ray.get(pair.add_to.remote(ray.put(tally), 2)) == 3
    assert pair.add_to(ray.put(tally), ray.put(2)) == 5


def test_a_handle_of_another_ensemble_is_refused(own_ensemble: MakeEnsemble) -> None:
    other = own_ensemble(acceptors=1, replicas=1)
    stranger: Handle[Any] = Tally.options(ensemble=other.name).remote()
    with pytest.raises(ValueError, match="another ensemble"):
        Pair.remote(None).kind_of(stranger)
    with pytest.raises(ValueError, match="another ensemble"):
        Pair.remote(stranger)
    assert stranger.increment() == 1


def test_a_handle_of_a_deleted_object_is_refused() -> None:
    tally = Tally.remote()
    concoord.delete(tally)
    with pytest.raises(concoord.NoSuchObject, match="deleted"):
        Pair.remote(None).kind_of(tally)


@every_path
def test_arguments_are_copies(call: Call) -> None:
    mine = ["mine"]
    journal = Journal.remote()
    call(journal.add, mine)
    mine.append("changed")
    assert call(journal.all) == [["mine"]]
    call(journal.all).append("changed")
    assert call(journal.all) == [["mine"]]


@pytest.fixture(scope="module")
def small_frames(cluster: str) -> Iterator[str]:
    """An ensemble with frames of at most 1 MiB."""
    with contextlib.ExitStack() as started:
        started.callback(concoord.shutdown, "small-frames")
        settings: dict[str, Any] = {
            "acceptors": 1,
            "replicas": 1,
            "max_frame_bytes": 1 << 20,
            "timeout_s": INIT_TIMEOUT_S,
        }
        yield concoord.init("small-frames", **settings).name


@every_path
def test_what_is_larger_than_a_frame_is_refused_and_the_next_call_works(call: Call, small_frames: str) -> None:
    journal = Journal.options(ensemble=small_frames).remote()
    with pytest.raises(concoord.FrameTooLarge, match="max_frame_bytes"):
        call(journal.add, b"x" * (2 << 20))
    assert call(journal.add, "small") == 1


@every_path
def test_a_result_larger_than_a_frame_is_an_error_for_its_caller_only(call: Call, small_frames: str) -> None:
    journal = Journal.options(ensemble=small_frames).remote()
    half = b"x" * 700_000
    assert [call(journal.add, half), call(journal.add, half)] == [1, 2]
    with pytest.raises(concoord.FrameTooLarge, match="max_frame_bytes"):
        call(journal.all)
    assert call(journal.add, half) == 3
