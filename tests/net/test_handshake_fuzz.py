"""Whatever a stranger sends, a handshake gives a documented error, and nothing is ever unpickled."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from concoord_ray.errors import ConfigurationError, ProtocolViolation, Unauthorized
from concoord_ray.net.handshake import Challenge, ConnectorHandshake, ListenerHandshake, Step
from tests.net.ends import CLIENT, REPLICA, SECRET

TAGS = ["concoord.hello", "concoord.challenge", "concoord.proof", "concoord.welcome", "concoord.refused"]

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
shaped = st.builds(lambda tag, rest: msgspec.msgpack.encode([tag, *rest]), st.sampled_from(TAGS), st.lists(values))


class Bomb:
    """Says so if it is unpickled."""

    exploded = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (setattr, (Bomb, "exploded", True))


def sides() -> list[ConnectorHandshake | ListenerHandshake]:
    """A handshake in each state in which it waits for something."""
    waiting_for_welcome, waiting_for_proof = ConnectorHandshake(CLIENT, SECRET), ListenerHandshake(REPLICA, SECRET)
    challenge = waiting_for_proof.receive(waiting_for_welcome.start()).reply
    assert challenge is not None
    waiting_for_welcome.receive(challenge)
    return [
        ConnectorHandshake(CLIENT, SECRET),
        ListenerHandshake(REPLICA, SECRET),
        waiting_for_welcome,
        waiting_for_proof,
    ]


def ends_with_a_documented_error(step: Step) -> bool:
    return isinstance(step.error, (ProtocolViolation, Unauthorized, ConfigurationError)) and step.peer is None


@given(st.binary(max_size=300) | values.map(msgspec.msgpack.encode))
def test_garbage_is_a_protocol_violation(payload: bytes) -> None:
    for side in sides():
        assert isinstance(side.receive(payload).error, ProtocolViolation)


@given(shaped)
def test_messages_of_the_right_shape_end_with_a_documented_error(payload: bytes) -> None:
    for side in sides()[:2] + sides()[3:]:  # one that waits for Welcome has proved its peer: any Welcome is right
        assert ends_with_a_documented_error(side.receive(payload))


def means(challenge: bytes) -> Challenge:
    """What the receiver makes of it: a field with a default may be absent, an unknown one is ignored."""
    return msgspec.msgpack.decode(challenge, type=Challenge)


@given(st.data())
def test_any_flipped_byte_that_changes_a_challenge_is_noticed(data: st.DataObject) -> None:
    connector = ConnectorHandshake(CLIENT, SECRET, REPLICA.member)
    challenge = ListenerHandshake(REPLICA, SECRET).receive(connector.start()).reply
    assert challenge is not None
    at = data.draw(st.integers(0, len(challenge) - 1))
    flip = data.draw(st.integers(1, 255))
    flipped = challenge[:at] + bytes([challenge[at] ^ flip]) + challenge[at + 1 :]
    step = connector.receive(flipped)
    assert ends_with_a_documented_error(step) or means(flipped) == means(challenge)


@given(st.integers(0, 200))
def test_a_truncated_challenge_is_a_protocol_violation(length: int) -> None:
    connector = ConnectorHandshake(CLIENT, SECRET)
    challenge = ListenerHandshake(REPLICA, SECRET).receive(connector.start()).reply
    assert challenge is not None
    assert isinstance(connector.receive(challenge[: min(length, len(challenge) - 1)]).error, ProtocolViolation)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\x91" * 4000, id="deep nesting"),
        pytest.param(msgspec.msgpack.encode(["concoord.welcome"])[:-1] + b"\xff", id="broken utf-8"),
        pytest.param(b"\x93\xae" + b"concoord.hello" + b"\x91" * 4000, id="deep nesting in a field"),
        pytest.param(b"\x93\xae" + b"concoord.hello" + b"\x81\xa1x" + b"\x91" * 4000, id="deep nesting where skipped"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="an array said to be huge"),
        pytest.param(b"\xc6\xff\xff\xff\xff", id="bytes said to be huge"),
    ],
)
def test_known_ways_to_upset_a_decoder_are_protocol_violations(payload: bytes) -> None:
    for side in sides():
        assert isinstance(side.receive(payload).error, ProtocolViolation)


def test_a_pickle_is_never_loaded() -> None:
    bomb = pickle.dumps(Bomb())
    for payload in (bomb, msgspec.msgpack.encode(["concoord.proof", bomb]), msgspec.msgpack.encode([bomb])):
        for side in sides():
            assert isinstance(side.receive(payload).error, ProtocolViolation)
    assert not Bomb.exploded
