"""A rope is its bytes, whatever pieces they came in, and nothing large is copied on the way into one."""

from __future__ import annotations

import pickle
import random

import pytest

from concoord_ray.rsm.rope import Rope

WHOLE = bytes(range(256)) * 5


def roped(seed: int) -> Rope:
    """The same bytes in other pieces for each seed."""
    rng, rope, at = random.Random(seed), Rope(), 0
    while at < len(WHOLE):
        size = rng.choice((0, 1, 7, 300))
        rope.write(WHOLE[at : at + size])
        at += size
    return rope


@pytest.mark.parametrize("seed", range(20))
def test_every_section_is_that_of_the_whole(seed: int) -> None:
    rope, rng = roped(seed), random.Random(seed)
    assert (len(rope), bytes(rope)) == (len(WHOLE), WHOLE)
    assert rope == Rope.of(WHOLE)
    for _ in range(200):
        begin, size = rng.randrange(len(WHOLE) + 10), rng.randrange(400)
        assert rope.cut(begin, size) == WHOLE[begin : begin + size]


@pytest.mark.parametrize("seed", range(20))
def test_a_reader_reads_what_a_file_would(seed: int) -> None:
    rng, reader, at = random.Random(seed), roped(seed).reader(3), 3
    while at < len(WHOLE):
        size = rng.randrange(400)
        if rng.random() < 0.5:
            data = reader.read(size)
        else:
            buffer = bytearray(size)
            data = bytes(buffer[: reader.readinto(memoryview(buffer))])
        assert data == WHOLE[at : at + size]
        at += size
    assert reader.read(1) == b""
    assert roped(seed).reader().readline() == WHOLE[: WHOLE.index(b"\n") + 1]


def test_nothing_is_a_rope_without_pieces() -> None:
    assert Rope.of(b"").pieces == []
    assert Rope.of(b"").cut(0, 5) == Rope().reader().read(5) == Rope().reader().readline() == b""


def test_large_values_are_pickled_without_a_copy_and_what_may_change_is_copied() -> None:
    large, changing = bytes(100_000), bytearray(3 << 20)
    rope = Rope()
    pickle.Pickler(rope, 5).dump((large, changing))
    assert any(piece is large for piece in rope.pieces)
    assert all(type(piece) is bytes for piece in rope.pieces)
    changing[:] = b"x" * len(changing)
    assert pickle.Unpickler(rope.reader()).load() == (large, bytearray(3 << 20))


def test_small_values_leave_the_pickler_a_frame_at_a_time() -> None:
    """Between two of them other threads have their turn."""
    rope = Rope()
    value = {number: (number, str(number)) for number in range(50_000)}
    pickle.Pickler(rope, 5).dump(value)
    assert max(map(len, rope.pieces)) < 100_000
    assert pickle.Unpickler(rope.reader()).load() == value
