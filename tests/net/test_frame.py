"""Frames come out whole and in order, however the network cut or merged them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concoord_ray.errors import ProtocolViolation
from concoord_ray.net.frame import FrameParser, frame

LIMIT = 1000


def test_a_frame_is_a_big_endian_length_and_the_payload() -> None:
    assert frame(b"abc") == b"\x00\x00\x00\x03abc"


def test_an_empty_payload_is_not_a_frame() -> None:
    with pytest.raises(ValueError, match="empty payload"):
        frame(b"")


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=12), st.lists(st.integers(1, 30), min_size=1))
def test_any_cut_of_the_stream_gives_the_same_payloads(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, payloads))
    parser = FrameParser(LIMIT)
    received: list[bytes] = []
    turn = 0
    while stream:
        size = cuts[turn % len(cuts)]
        received += parser.feed(stream[:size])
        stream = stream[size:]
        turn += 1
    assert received == payloads


def test_one_read_may_bring_many_frames_and_the_start_of_another() -> None:
    parser = FrameParser(LIMIT)
    assert parser.feed(frame(b"one") + frame(b"two") + frame(b"three")[:6]) == [b"one", b"two"]
    assert parser.feed(frame(b"three")[6:] + frame(b"four")) == [b"three", b"four"]


def test_a_payload_of_exactly_the_limit_passes() -> None:
    assert FrameParser(LIMIT).feed(frame(b"x" * LIMIT)) == [b"x" * LIMIT]


@pytest.mark.parametrize("length", [0, LIMIT + 1, (1 << 32) - 1])
@pytest.mark.parametrize("first", [b"", frame(b"fine")])
def test_a_length_outside_the_limits_is_refused_before_its_payload_arrives(length: int, first: bytes) -> None:
    parser = FrameParser(LIMIT)
    with pytest.raises(ProtocolViolation, match=f"frame of {length} bytes announced.*allowed are 1 to {LIMIT}"):
        parser.feed(first + length.to_bytes(4, "big"))


def test_a_whole_frame_above_the_limit_is_refused_too() -> None:
    with pytest.raises(ProtocolViolation, match="1001 bytes"):
        FrameParser(LIMIT).feed(frame(b"x" * (LIMIT + 1)))


@pytest.mark.parametrize(("start", "hint"), [(b"GET / HTTP/1.1", "GET"), (b"\x16\x03\x01\x02", "RAY_USE_TLS")])
def test_a_peer_that_speaks_something_else_is_named(start: bytes, hint: str) -> None:
    with pytest.raises(ProtocolViolation, match=hint):
        FrameParser(LIMIT).feed(start)


def test_a_large_frame_keeps_its_chunks_apart_until_it_is_whole() -> None:
    """Joining at every read would be quadratic: what is kept are the very objects that came in."""
    parser = FrameParser(1 << 20)
    chunk = b"c" * 1000
    parser.feed((100 * 1000).to_bytes(4, "big") + chunk)
    for _ in range(98):
        assert parser.feed(chunk) == []
    assert all(kept is chunk for kept in parser._chunks[1:])
    assert len(parser._chunks) == 99
    assert parser.feed(chunk) == [chunk * 100]
    assert parser._chunks == []
