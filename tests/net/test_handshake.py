"""Both sides prove themselves, and each way of not doing so ends with its own error."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from concoord_ray.errors import ConcoordError, ConfigurationError, ProtocolViolation, Unauthorized
from concoord_ray.net import handshake
from concoord_ray.net.handshake import ConnectorHandshake, ListenerHandshake, Refusal, Step, WrongMember
from concoord_ray.net.identity import PROTOCOL_VERSION, PYTHON_MINOR, Identity
from concoord_ray.paxos.view import Member, Role
from tests.net.ends import CLIENT, REPLICA, SECRET

OTHER_SECRET = b"o" * 32


def decode(payload: bytes | None) -> Any:
    """A message of the handshake as plain lists and dicts."""
    assert payload is not None
    return msgspec.msgpack.decode(payload)


def reply(step: Step) -> bytes:
    """What a step that goes on wants sent."""
    assert step.error is None
    assert step.reply is not None
    return step.reply


def exchange(connector: ConnectorHandshake, listener: ListenerHandshake) -> tuple[Step, Step]:
    """Run a handshake to its end; the last step of (connector, listener)."""
    at_listener = listener.receive(connector.start())
    assert at_listener.reply is not None
    at_connector = connector.receive(at_listener.reply)
    while at_connector.reply is not None:
        at_listener = listener.receive(at_connector.reply)
        if at_listener.reply is None or at_connector.error is not None:
            break
        at_connector = connector.receive(at_listener.reply)
    return at_connector, at_listener


def test_both_sides_learn_who_the_other_is() -> None:
    at_connector, at_listener = exchange(
        ConnectorHandshake(CLIENT, SECRET, REPLICA.member), ListenerHandshake(REPLICA, SECRET)
    )
    assert at_connector == Step(peer=REPLICA)
    assert at_listener.peer == CLIENT


def test_the_secret_is_never_on_the_wire() -> None:
    connector, listener = ConnectorHandshake(CLIENT, SECRET), ListenerHandshake(REPLICA, SECRET)
    hello = connector.start()
    challenge = reply(listener.receive(hello))
    proof = reply(connector.receive(challenge))
    welcome = listener.receive(proof).reply
    assert welcome is not None
    assert SECRET not in hello + challenge + proof + welcome


def test_no_nonce_is_used_twice() -> None:
    nonces = {decode(ConnectorHandshake(CLIENT, SECRET).start())[2] for _ in range(100)}
    hello = ConnectorHandshake(CLIENT, SECRET).start()
    nonces |= {decode(ListenerHandshake(REPLICA, SECRET).receive(hello).reply)[2] for _ in range(100)}
    assert len(nonces) == 200
    assert {len(nonce) for nonce in nonces} == {32}


@pytest.mark.parametrize(
    ("changes", "refusal", "error", "says"),
    [
        ({"protocol": PROTOCOL_VERSION + 1}, Refusal.PROTOCOL, ConfigurationError, "install the same version"),
        ({"python": "2.7"}, Refusal.PYTHON, ConfigurationError, "same minor version of Python"),
        ({"ensemble": "other"}, Refusal.ENSEMBLE, ConfigurationError, "another ensemble"),
    ],
)
def test_peers_that_cannot_work_together_are_told_so(
    changes: dict[str, Any], refusal: Refusal, error: type[ConcoordError], says: str
) -> None:
    stranger = msgspec.structs.replace(CLIENT, **changes)
    at_connector, at_listener = exchange(ConnectorHandshake(stranger, SECRET), ListenerHandshake(REPLICA, SECRET))
    for step in (at_connector, at_listener):
        assert step.refusal is refusal
        assert isinstance(step.error, error)
        assert says in str(step.error)
        assert step.peer is None


def test_a_refusal_tells_a_stranger_no_names() -> None:
    hello = ConnectorHandshake(Identity("other", CLIENT.member), SECRET).start()
    refused = ListenerHandshake(REPLICA, SECRET).receive(hello).reply
    assert decode(refused) == ["concoord.refused", "ensemble", PROTOCOL_VERSION, PYTHON_MINOR]


def test_a_connector_checks_the_listeners_versions_itself() -> None:
    future = msgspec.structs.replace(REPLICA, protocol=PROTOCOL_VERSION + 1)
    connector = ConnectorHandshake(CLIENT, SECRET)
    challenge = handshake.Challenge(future, b"n" * 32, b"p" * 32)
    step = connector.receive(msgspec.msgpack.encode(challenge))
    assert step.refusal is Refusal.PROTOCOL


def test_a_wrong_secret_is_unauthorized_on_both_sides() -> None:
    at_connector, at_listener = exchange(ConnectorHandshake(CLIENT, OTHER_SECRET), ListenerHandshake(REPLICA, SECRET))
    for step in (at_connector, at_listener):
        assert isinstance(step.error, Unauthorized)
        assert step.refusal is Refusal.UNAUTHORIZED
        assert "give this process the secret" in str(step.error)


def test_a_connector_that_skips_the_check_of_the_listener_is_still_found_out() -> None:
    listener = ListenerHandshake(REPLICA, SECRET)
    reply(listener.receive(ConnectorHandshake(CLIENT, OTHER_SECRET).start()))
    step = listener.receive(msgspec.msgpack.encode(handshake.Proof(b"p" * 32)))
    assert isinstance(step.error, Unauthorized)
    assert decode(step.reply)[:2] == ["concoord.refused", "unauthorized"]


def test_a_replayed_proof_proves_nothing() -> None:
    connector, listener = ConnectorHandshake(CLIENT, SECRET), ListenerHandshake(REPLICA, SECRET)
    hello = connector.start()
    proof = reply(connector.receive(reply(listener.receive(hello))))
    assert listener.receive(proof).peer == CLIENT

    again = ListenerHandshake(REPLICA, SECRET)
    reply(again.receive(hello))
    assert isinstance(again.receive(proof).error, Unauthorized)


def test_a_replayed_challenge_proves_nothing() -> None:
    challenge = reply(ListenerHandshake(REPLICA, SECRET).receive(ConnectorHandshake(CLIENT, SECRET).start()))
    assert isinstance(ConnectorHandshake(CLIENT, SECRET).receive(challenge).error, Unauthorized)


def test_a_listeners_own_proof_sent_back_proves_nothing() -> None:
    listener = ListenerHandshake(REPLICA, SECRET)
    challenge = decode(reply(listener.receive(ConnectorHandshake(CLIENT, SECRET).start())))
    step = listener.receive(msgspec.msgpack.encode(handshake.Proof(challenge[3])))
    assert isinstance(step.error, Unauthorized)


def test_a_proof_made_for_a_reflected_nonce_proves_nothing() -> None:
    """The attacker has another listener answer the challenge, as if it were a connector's nonce."""
    victim = ListenerHandshake(REPLICA, SECRET)
    challenge = decode(reply(victim.receive(ConnectorHandshake(REPLICA, SECRET).start())))
    oracle = ListenerHandshake(REPLICA, SECRET)
    reflected = msgspec.msgpack.encode(handshake.Hello(REPLICA, challenge[2]))
    answer = decode(reply(oracle.receive(reflected)))
    step = victim.receive(msgspec.msgpack.encode(handshake.Proof(answer[3])))
    assert isinstance(step.error, Unauthorized)


@pytest.mark.parametrize("side", ["connector", "listener"])
def test_a_proof_can_not_be_lent_to_another_identity(side: str) -> None:
    """A relay that changes a name on the way breaks the proof."""
    connector, listener = ConnectorHandshake(CLIENT, SECRET), ListenerHandshake(REPLICA, SECRET)
    other = {"ensemble": "default", "member": ["replica", 7, 7], "python": PYTHON_MINOR, "protocol": PROTOCOL_VERSION}
    hello = decode(connector.start())
    if side == "connector":
        hello[1] = other
    challenge = decode(reply(listener.receive(msgspec.msgpack.encode(hello))))
    if side == "listener":
        challenge[1] = other
    assert isinstance(connector.receive(msgspec.msgpack.encode(challenge)).error, Unauthorized)


def test_proofs_are_bound_to_the_tls_connection() -> None:
    at_connector, _ = exchange(
        ConnectorHandshake(CLIENT, SECRET, binding=b"mine"), ListenerHandshake(REPLICA, SECRET, binding=b"yours")
    )
    assert isinstance(at_connector.error, Unauthorized)


def test_another_incarnation_than_expected_is_reported_and_gets_no_proof() -> None:
    earlier = Member(Role.REPLICA, 0, 0xDEAD)
    connector = ConnectorHandshake(CLIENT, SECRET, earlier)
    step = connector.receive(reply(ListenerHandshake(REPLICA, SECRET).receive(connector.start())))
    assert isinstance(step.error, WrongMember)
    assert (step.error.expected, step.error.got) == (earlier, REPLICA.member)
    assert step.reply is None


def test_a_message_out_of_turn_ends_the_handshake() -> None:
    connector, listener = ConnectorHandshake(CLIENT, SECRET), ListenerHandshake(REPLICA, SECRET)
    welcome = msgspec.msgpack.encode(handshake.Welcome())
    for side in (connector, listener):
        step = side.receive(welcome)
        assert isinstance(step.error, ProtocolViolation)
        assert "Welcome where" in str(step.error)


@pytest.mark.parametrize("then", ["welcome", "hello"])
def test_nothing_is_taken_after_the_end(then: str) -> None:
    connector, listener = ConnectorHandshake(CLIENT, SECRET), ListenerHandshake(REPLICA, SECRET)
    exchange(connector, listener)
    late = msgspec.msgpack.encode(handshake.Welcome()) if then == "welcome" else connector.start()
    for side in (connector, listener):
        step = side.receive(late)
        assert isinstance(step.error, ProtocolViolation)
        assert step.peer is None


def test_a_refusal_that_is_never_sent_is_not_taken_from_the_wire() -> None:
    refused = msgspec.msgpack.encode(handshake.Refused(Refusal.TIMEOUT))
    assert isinstance(ConnectorHandshake(CLIENT, SECRET).receive(refused).error, ProtocolViolation)


@pytest.mark.parametrize("make", [ConnectorHandshake, ListenerHandshake])
def test_an_empty_secret_is_refused(make: type[ConnectorHandshake] | type[ListenerHandshake]) -> None:
    with pytest.raises(ConfigurationError, match="secret is empty"):
        make(CLIENT, b"")


@pytest.mark.parametrize("name", ["", "x" * 256])
def test_an_ensemble_name_fits_into_a_hello(name: str) -> None:
    with pytest.raises(ConfigurationError, match="use between 1 and 255"):
        Identity(name, CLIENT.member)
