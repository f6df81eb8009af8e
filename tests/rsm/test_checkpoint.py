"""Replicas that differ are found, by majority, and what differs is named."""

from __future__ import annotations

import pickle
import random
from typing import Any

import pytest
from msgspec import msgpack

from concoord_ray.rsm.checkpoint import (
    Checkpoint,
    ObjectDigest,
    ReplyDigest,
    ReplyDigests,
    compare,
    in_turn,
    reply_digest,
)
from concoord_ray.rsm.command import Outcome
from concoord_ray.rsm.objects import raised, refuse, value
from concoord_ray.rsm.wire import encode_plain


def checkpoint(
    *, pay: int = 1, note: int = 1, ledger: bytes = b"a", queue: bytes = b"a", rest: bytes = b"r", slot: int = 2000
) -> Checkpoint:
    objects = (ObjectDigest(7, "Ledger", ledger), ObjectDigest(8, "Queue", queue))
    replies = (ReplyDigest("Ledger", "note", note), ReplyDigest("Ledger", "pay", pay), ReplyDigest("Queue", "get", 1))
    return Checkpoint(slot, 1000, objects, replies, rest)


RIGHT = checkpoint()


def test_nothing_is_said_while_all_agree() -> None:
    assert compare({}, 3) is None
    assert compare({"a": RIGHT}, 3) is None
    assert compare({"a": RIGHT, "b": checkpoint(), "c": checkpoint()}, 3) is None


def test_checkpoints_of_different_slots_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different slots"):
        compare({"a": RIGHT, "b": checkpoint(slot=3000)}, 3)


def test_a_method_whose_replies_differ_is_suspected() -> None:
    verdict = compare({"a": RIGHT, "b": checkpoint(pay=2, ledger=b"b"), "c": RIGHT}, 3)
    assert verdict is not None
    assert (verdict.minority, verdict.no_majority, verdict.is_final) == (("b",), False, True)
    assert verdict.suspects == ("Ledger.pay",)
    assert verdict.text.startswith(
        "b differs from a majority of the replicas at slot 2000: replies of Ledger.pay in slots 1000 to 1999; "
        "the state of object 7 (Ledger). Methods must do the same"
    )


def test_if_state_alone_differs_every_method_of_its_class_is_suspected() -> None:
    verdict = compare({"a": checkpoint(ledger=b"b"), "b": RIGHT, "c": RIGHT}, 3)
    assert verdict is not None
    assert verdict.minority == ("a",)
    assert verdict.suspects == ("Ledger.note", "Ledger.pay")
    assert "object 7 (Ledger)" in verdict.text
    assert "one of the methods called in slots 1000 to 1999 is to blame: Ledger.note, Ledger.pay." in verdict.text
    assert "Queue" not in verdict.text


def test_if_none_of_its_methods_was_called_nobody_is_suspected() -> None:
    one, other = (Checkpoint(20, 10, (ObjectDigest(1, "Ledger", name),), (), b"") for name in (b"a", b"b"))
    verdict = compare({"a": one, "b": other, "c": one}, 3)
    assert verdict is not None
    assert verdict.suspects == ()
    assert "a method of that class" in verdict.text


def test_an_object_that_only_some_have_is_named() -> None:
    without = Checkpoint(RIGHT.slot, RIGHT.since, RIGHT.objects[:1], RIGHT.replies[:2], RIGHT.rest)
    verdict = compare({"a": RIGHT, "b": without, "c": RIGHT}, 3)
    assert verdict is not None
    assert verdict.suspects == ("Queue.get",)
    assert "object 8 (Queue)" in verdict.text


def test_the_rest_is_named() -> None:
    verdict = compare({"a": RIGHT, "b": checkpoint(rest=b"x"), "c": RIGHT}, 3)
    assert verdict is not None
    assert verdict.suspects == ()
    assert "sessions, tokens or time. " in verdict.text


@pytest.mark.parametrize(
    ("reports", "total", "minority", "no_majority", "is_final"),
    [
        ("AB", 2, "", True, True),
        ("AB", 3, "", True, False),
        ("ABC", 3, "", True, True),
        ("AAB", 3, "B", False, True),
        ("AAB", 4, "", True, False),
        ("AAB", 5, "", True, False),
        ("AABB", 4, "", True, True),
        ("AABB", 5, "", True, False),
        ("AABBC", 5, "", True, True),
        ("AAABB", 5, "BB", False, True),
        ("AAABC", 5, "BC", False, True),
        ("BAAA", 5, "B", False, True),
        ("AAABBB", 7, "", True, False),
        ("ABCD", 5, "", True, True),
        ("ABC", 4, "", True, True),
    ],
)
def test_who_is_wrong_is_decided_by_a_majority_of_all_replicas(
    reports: str, total: int, minority: str, no_majority: bool, is_final: bool
) -> None:
    states = {letter: checkpoint(pay=n, ledger=letter.encode()) for n, letter in enumerate("ABCD")}
    verdict = compare({(n, letter): states[letter] for n, letter in enumerate(reports)}, total)
    assert verdict is not None
    assert "".join(letter for _, letter in verdict.minority) == minority
    assert (verdict.no_majority, verdict.is_final) == (no_majority, is_final)
    assert ("no majority" in verdict.text) == no_majority


def test_the_order_of_reports_does_not_count() -> None:
    reports = [("a", RIGHT), ("b", checkpoint(pay=2)), ("c", RIGHT), ("d", checkpoint(note=2)), ("e", RIGHT)]
    rng = random.Random(1)
    verdicts = []
    for _ in range(10):
        rng.shuffle(reports)
        verdict = compare(dict(reports), 5)
        assert verdict is not None
        verdicts.append((sorted(verdict.minority), verdict.suspects))
    assert verdicts == [(["b", "d"], ("Ledger.note", "Ledger.pay"))] * 10


def test_long_lists_are_cut() -> None:
    def of(state: bytes) -> Checkpoint:
        return Checkpoint(20, 10, tuple(ObjectDigest(n, "Ledger", state) for n in range(100)), (), b"")

    verdict = compare({"a": of(b"a"), "b": of(b"b"), "c": of(b"a")}, 3)
    assert verdict is not None
    assert "and 92 more" in verdict.text
    assert len(verdict.text) < 1000


def test_a_checkpoint_is_a_wire_message() -> None:
    assert msgpack.decode(encode_plain(RIGHT), type=Checkpoint) == RIGHT
    assert encode_plain(RIGHT) == encode_plain(checkpoint())


# Replies.


def gathered(*replies: tuple[str, str, bytes], limit: int = 256) -> tuple[ReplyDigest, ...]:
    digests = ReplyDigests(limit)
    for reply in replies:
        digests.add(*reply)
    return digests.take()


def test_replies_are_gathered_by_method_and_in_order() -> None:
    one, other, third = ("A", "f", b"1"), ("A", "f", b"2"), ("B", "f", b"1")
    assert gathered(one, other, third) == gathered(third, one, other) == gathered(one, third, other)
    assert gathered(one, other) != gathered(other, one)
    assert gathered(one) != gathered(one, one) != gathered(one, one, one)
    assert [(each.class_name, each.method) for each in gathered(third, one)] == [("A", "f"), ("B", "f")]
    assert gathered() == ()


def test_gathering_begins_anew_after_a_checkpoint_and_goes_on_after_a_snapshot() -> None:
    digests = ReplyDigests()
    digests.add("A", "f", b"1")
    assert digests.take() == gathered(("A", "f", b"1"))
    assert digests.take() == ()
    digests.add("A", "f", b"1")
    restored = pickle.loads(pickle.dumps(digests))
    for each in (digests, restored):
        each.add("A", "f", b"2")
    assert restored.take() == digests.take() == gathered(("A", "f", b"1"), ("A", "f", b"2"))


def test_numbers_stand_for_replies_too() -> None:
    digests = ReplyDigests()
    digests.add("A", "f", 2**64 - 1)
    assert digests.take() == gathered(("A", "f", b"\xff" * 8))


def test_methods_beyond_the_limit_count_as_one() -> None:
    many = [("A", f"f{n}", b"1") for n in range(100)]
    found = gathered(*many, limit=10)
    assert len(found) == 11
    assert (found[0].class_name, found[0].method) == ("", "")
    assert found != gathered(*many[:-1], ("A", "f99", b"2"), limit=10)
    verdict = compare(
        {
            n: Checkpoint(1, 0, (), gathered(*many, ("A", "g", end), limit=10), b"")
            for n, end in enumerate((b"a", b"b"))
        },
        2,
    )
    assert verdict is not None
    assert verdict.suspects == ("one of many methods",)


class Strange(ValueError):
    pass


class Opaque:
    def __init__(self, x: Any) -> None:
        self.x = x


def of_result(result: Any) -> bytes:
    answer = value(result)
    return reply_digest(answer.outcome, answer.payload, result, seed=1)


def of_error(error: BaseException) -> bytes:
    answer = raised(error)
    return reply_digest(answer.outcome, answer.payload, error, seed=1)


def test_plain_results_count_by_their_bytes() -> None:
    assert of_result(7) == encode_plain(7)
    assert len({of_result(each) for each in (0, False, 0.0, -0.0, None, "", b"", "a", 1, 2**70)}) == 10


def test_other_results_count_by_their_structure() -> None:
    shared = (1, 2)
    assert of_result([shared, shared]) == of_result([(1, 2), pickle.loads(pickle.dumps((1, 2)))])
    assert of_result({"b", "a"}) == of_result({"a", "b"})
    assert of_result(Opaque([1])) == of_result(Opaque([1])) != of_result(Opaque([2]))
    large = [[n] for n in range(1000)]
    assert of_result(large) == of_result([[n] for n in range(1000)]) != of_result(large[1:])


def test_exceptions_count_by_type_and_arguments() -> None:
    assert of_error(ValueError("a", 1)) == of_error(ValueError("a", 1))
    errors = [ValueError("a"), ValueError("b"), Strange("a"), KeyError("a"), ValueError(), ValueError("a", "a")]
    assert len({of_error(error) for error in errors}) == len(errors)


def test_addresses_in_the_text_of_exceptions_do_not_count() -> None:
    assert of_error(ValueError(f"bad {object()!r}")) == of_error(ValueError("bad <object object at 0x7f0000001230>"))
    assert of_error(ValueError("bad 0x1f")) != of_error(ValueError("bad 0x2f"))


def test_refusals_count_by_their_text() -> None:
    from concoord_ray.errors import NoSuchObject

    one, other = refuse(NoSuchObject("a")), refuse(NoSuchObject("b"))
    assert one.outcome is Outcome.REFUSED
    digests = [reply_digest(each.outcome, each.payload, None, seed=1) for each in (one, other)]
    assert digests == [one.payload, other.payload]


# Turns.


def test_few_objects_are_all_compared_and_of_many_all_in_turn() -> None:
    assert in_turn([1, 2, 3], 5, 3) == [1, 2, 3]
    assert in_turn([], 5, 3) == []
    for step in (1, 1000, 1024, 987):
        turns = [in_turn(range(1000), slot * step, 100) for slot in range(100)]
        assert {len(set(turn)) for turn in turns} == {100}
        assert len({number for turn in turns for number in turn}) == 1000
