"""Frames come out whole and in order, however the network cut or merged them."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concoord_ray.errors import ProtocolViolation
from concoord_ray.net.frame import FrameParser, cut, frame, pack_length

LIMIT = 1000


def test_a_frame_is_a_big_endian_length_and_the_payload() -> None:
    assert frame(b"abc") == b"\x00\x00\x00\x03abc"


def test_an_empty_payload_is_not_a_frame() -> None:
    with pytest.raises(ValueError, match="empty payload"):
        frame(b"")


def fed(parser: FrameParser, stream: bytes, reads: list[int]) -> list[bytes]:
    """What comes out if each read brings so many bytes of the stream, and the last ones the rest."""
    received: list[bytes] = []
    turn = 0
    while stream:
        size = reads[turn % len(reads)]
        received += parser.feed(stream[:size])
        stream = stream[size:]
        turn += 1
    return received


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=12), st.lists(st.integers(1, 30), min_size=1))
def test_any_cut_of_the_stream_gives_the_same_payloads(payloads: list[bytes], reads: list[int]) -> None:
    assert fed(FrameParser(LIMIT), b"".join(map(frame, payloads)), reads) == payloads


@given(
    st.lists(st.binary(min_size=1, max_size=60), max_size=6),
    st.lists(st.binary(min_size=1, max_size=9), max_size=12),
    st.lists(st.integers(1, 30), min_size=1),
    st.data(),
)
def test_frames_pass_between_the_pieces_of_large_ones(
    large: list[bytes], small: list[bytes], reads: list[int], data: st.DataObject
) -> None:
    pieces = [b"".join(piece) for payload in large for piece in pairs(payload, data.draw(st.integers(1, 20)))]
    stream = list(map(frame, small))
    places = sorted(data.draw(st.integers(0, len(pieces))) for _ in small)
    for place, each in zip(reversed(places), reversed(stream), strict=True):
        pieces.insert(place, each)
    received = fed(FrameParser(LIMIT), b"".join(pieces), reads)
    assert sorted(received) == sorted(large + small)
    # Each kind in its own order, unless a payload of one is also one of the other.
    if not set(large) & set(small):
        assert [payload for payload in received if payload in set(large)] == large
        assert [payload for payload in received if payload in set(small)] == small


def pairs(payload: bytes, piece_bytes: int) -> list[tuple[bytes, bytes]]:
    parts = [bytes(part) for part in cut(payload, piece_bytes)]
    return list(zip(parts[::2], parts[1::2], strict=True))


def test_a_large_payload_is_cut_into_pieces_that_say_whether_more_comes() -> None:
    assert [bytes(part) for part in cut(b"abcde", 2)] == [
        b"\x80\x00\x00\x02", b"ab", b"\x80\x00\x00\x02", b"cd", b"\xc0\x00\x00\x01", b"e",
    ]  # fmt: skip


def test_pieces_together_keep_to_the_limit() -> None:
    parser = FrameParser(LIMIT)
    assert parser.feed(b"".join(cut(b"x" * LIMIT, 300))) == [b"x" * LIMIT]
    assert parser.feed(b"".join(cut(b"y" * LIMIT, 300))) == [b"y" * LIMIT]
    with pytest.raises(ProtocolViolation, match=f"frame of {LIMIT + 1} bytes announced"):
        parser.feed(b"".join(cut(b"z" * (LIMIT + 1), 300))[: LIMIT + 4 * 4])


@pytest.mark.parametrize("piece_bytes", [1, 100, 5_000, 20_000])
@pytest.mark.parametrize("other_bytes", [0, 10_000, 100_000])
def test_pieces_take_little_memory_however_small_and_whatever_comes_with_them(
    piece_bytes: int, other_bytes: int
) -> None:
    """Of each read a piece, the rest a frame that is handed on at once."""
    payload, other = bytes(piece_bytes * 300 + 1), bytes(other_bytes)
    pieces = pairs(payload, piece_bytes)[:-1]
    parser = FrameParser(1 << 30)
    tracemalloc.start()
    try:
        for head, piece in pieces:
            parser.feed(head + piece + (frame(other) if other else b""))
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 5 * len(payload) + 10_000


def test_an_empty_piece_is_refused() -> None:
    with pytest.raises(ProtocolViolation, match="first bytes 80000000"):
        FrameParser(LIMIT).feed(pack_length(1 << 31))


def test_one_read_may_bring_many_frames_and_the_start_of_another() -> None:
    parser = FrameParser(LIMIT)
    assert parser.feed(frame(b"one") + frame(b"two") + frame(b"three")[:6]) == [b"one", b"two"]
    assert parser.feed(frame(b"three")[6:] + frame(b"four")) == [b"three", b"four"]


def test_a_payload_of_exactly_the_limit_passes() -> None:
    assert FrameParser(LIMIT).feed(frame(b"x" * LIMIT)) == [b"x" * LIMIT]


@pytest.mark.parametrize("length", [0, LIMIT + 1, (1 << 31) - 1])
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
