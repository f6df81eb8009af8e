"""The mutual handshake: both sides prove, without sending it, that they know the ensemble's secret.

Sans-IO, in the manner of h11: one object per side and connection, payloads in, a ``Step`` out. Four messages::

    connector -> listener   Hello(identity, nonce)
    listener -> connector   Challenge(identity, nonce, proof)
    connector -> listener   Proof(proof)
    listener -> connector   Welcome()

A proof is HMAC-SHA256 under the secret of (label, protocol, connector's identity, listener's identity, connector's
nonce, listener's nonce, channel binding). The labels of the two directions differ, so a proof sent back to its maker
proves nothing; a nonce is 32 random bytes made for one handshake, so a recorded proof proves nothing later; the
identities are covered, so nobody can lend a proof to another incarnation. The binding names the TLS connection
(``net.tls``), so nobody can relay the proofs between two TLS connections of his own. Without TLS the bytes *after*
the handshake are neither secret nor authenticated: against someone who can alter packets on the network, use TLS.

Either side may answer ``Refused`` instead and close. It names no more than a stranger may know: protocol version,
Python minor version, that the ensemble is another, or "unauthorized". Text for humans is made by the receiver, never
taken from the wire.

Every message is MessagePack of fixed types, decoded by msgspec. Nothing is ever unpickled here.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Protocol, Union

import msgspec

from concoord_ray.errors import ConcoordError, ConfigurationError, ProtocolViolation, Unauthorized
from concoord_ray.net.identity import PROTOCOL_VERSION, PYTHON_MINOR, Identity
from concoord_ray.paxos.view import Member

_NONCE_BYTES = 32
_PROOF_BYTES = hashlib.sha256().digest_size
_LISTENER_LABEL = "concoord_ray listener proof"
_CONNECTOR_LABEL = "concoord_ray connector proof"

Nonce = Annotated[bytes, msgspec.Meta(min_length=_NONCE_BYTES, max_length=_NONCE_BYTES)]
Digest = Annotated[bytes, msgspec.Meta(min_length=_PROOF_BYTES, max_length=_PROOF_BYTES)]


class Refusal(str, Enum):
    """Why a connection did not get through its handshake. Only the first four are ever sent to the peer."""

    PROTOCOL = "protocol version"
    PYTHON = "python version"
    ENSEMBLE = "ensemble"
    UNAUTHORIZED = "unauthorized"
    MALFORMED = "malformed"
    OTHER_MEMBER = "other member"
    TIMEOUT = "timeout"
    CROWDED = "too many strangers"
    TLS = "tls"
    LEFT = "left"

    def __str__(self) -> str:
        return self.value


_SENT_REFUSALS = frozenset({Refusal.PROTOCOL, Refusal.PYTHON, Refusal.ENSEMBLE, Refusal.UNAUTHORIZED})


class WrongMember(ConcoordError):
    """The listener proved to be another member than the one dialed. Ask the directory where the member is now."""

    def __init__(self, expected: Member, got: Member) -> None:
        super().__init__(f"dialed {expected}, but {got} answered: ask the directory where {expected} is now.")
        self.expected = expected
        self.got = got


class _Message(msgspec.Struct, frozen=True, array_like=True, tag_field="type"):
    """Base of the handshake's messages."""


class Hello(_Message, frozen=True, tag="concoord.hello"):
    """Connector to listener: this is who I say I am; prove yourself over my nonce."""

    identity: Identity
    nonce: Nonce


class Challenge(_Message, frozen=True, tag="concoord.challenge"):
    """Listener to connector: this is who I am, proved; now you, over my nonce."""

    identity: Identity
    nonce: Nonce
    proof: Digest


class Proof(_Message, frozen=True, tag="concoord.proof"):
    """Connector to listener: proved."""

    proof: Digest


class Welcome(_Message, frozen=True, tag="concoord.welcome"):
    """Listener to connector: the connection is open."""


class Refused(_Message, frozen=True, tag="concoord.refused"):
    """Either way: no, and close. ``protocol`` and ``python`` are the sender's own versions."""

    reason: Refusal
    protocol: int = PROTOCOL_VERSION
    python: str = PYTHON_MINOR


@dataclass(frozen=True, slots=True)
class Step:
    """What one received payload led to. At most one of ``peer`` and ``error`` is set; then the handshake is over."""

    reply: bytes | None = None  # payload to send, also before closing on an error
    peer: Identity | None = None  # the other side, proved
    error: ConcoordError | None = None  # close the connection
    refusal: Refusal | None = None  # the error, for counting


class Handshake(Protocol):
    """What both sides have in common."""

    dialed: bool

    def start(self) -> bytes | None:
        """The payload to send first, None on the side that waits."""

    def receive(self, payload: bytes) -> Step:
        """Take one payload of the peer. Never raises on what the peer sent: that is ``Step.error``."""


class _Transcript(msgspec.Struct, frozen=True, array_like=True):
    """What a proof covers."""

    connector: Identity
    listener: Identity
    connector_nonce: bytes
    listener_nonce: bytes
    binding: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Union[Hello, Challenge, Proof, Welcome, Refused]).decode


class ConnectorHandshake:
    """The side that dialed."""

    dialed = True

    def __init__(self, identity: Identity, secret: bytes, expected: Member | None = None, binding: bytes = b"") -> None:
        self._identity = identity
        self._binding = binding
        self._secret = checked_secret(secret)
        self._expected = expected
        self._nonce = secrets.token_bytes(_NONCE_BYTES)
        self._awaits: type[Challenge] | type[Welcome] | None = Challenge
        self._peer: Identity | None = None

    def start(self) -> bytes:
        """The Hello."""
        return _encode(Hello(self._identity, self._nonce))

    def receive(self, payload: bytes) -> Step:
        """Take a Challenge, then a Welcome."""
        step, self._awaits = self._step(payload, self._awaits), None
        if step.error is None and step.peer is None:
            self._awaits = Welcome
        return step

    def _step(self, payload: bytes, awaited: type[Challenge] | type[Welcome] | None) -> Step:
        message = _read(payload, awaited)
        if isinstance(message, Step):
            return message
        if isinstance(message, Challenge):
            return self._answer(message)
        return Step(peer=self._peer)

    def _answer(self, challenge: Challenge) -> Step:
        listener = challenge.identity
        mismatch = _mismatch(self._identity, listener)
        if mismatch is not None:
            return _refuse(mismatch, self._identity, listener.protocol, listener.python)
        transcript = _Transcript(self._identity, listener, self._nonce, challenge.nonce, self._binding)
        expected_proof = _proof(self._secret, _LISTENER_LABEL, transcript)
        if not hmac.compare_digest(expected_proof, challenge.proof):
            return _refuse(Refusal.UNAUTHORIZED, self._identity, listener.protocol, listener.python)
        if self._expected is not None and listener.member != self._expected:
            return Step(error=WrongMember(self._expected, listener.member), refusal=Refusal.OTHER_MEMBER)
        self._peer = listener
        return Step(reply=_encode(Proof(_proof(self._secret, _CONNECTOR_LABEL, transcript))))


class ListenerHandshake:
    """The side that was dialed."""

    dialed = False

    def __init__(self, identity: Identity, secret: bytes, binding: bytes = b"") -> None:
        self._identity = identity
        self._binding = binding
        self._secret = checked_secret(secret)
        self._nonce = secrets.token_bytes(_NONCE_BYTES)
        self._awaits: type[Hello] | type[Proof] | None = Hello
        self._transcript: _Transcript | None = None

    def start(self) -> None:
        """The listener waits for the Hello."""

    def receive(self, payload: bytes) -> Step:
        """Take a Hello, then a Proof."""
        step, self._awaits = self._step(payload, self._awaits), None
        if step.error is None and step.peer is None:
            self._awaits = Proof
        return step

    def _step(self, payload: bytes, awaited: type[Hello] | type[Proof] | None) -> Step:
        message = _read(payload, awaited)
        if isinstance(message, Step):
            return message
        if isinstance(message, Hello):
            return self._challenge(message)
        assert isinstance(message, Proof)
        assert self._transcript is not None  # a Proof is awaited only after a Hello
        return self._admit(self._transcript, message)

    def _challenge(self, hello: Hello) -> Step:
        connector = hello.identity
        mismatch = _mismatch(self._identity, connector)
        if mismatch is not None:
            return _refuse(mismatch, self._identity, connector.protocol, connector.python)
        self._transcript = _Transcript(connector, self._identity, hello.nonce, self._nonce, self._binding)
        proof = _proof(self._secret, _LISTENER_LABEL, self._transcript)
        return Step(reply=_encode(Challenge(self._identity, self._nonce, proof)))

    def _admit(self, transcript: _Transcript, proof: Proof) -> Step:
        connector = transcript.connector
        expected_proof = _proof(self._secret, _CONNECTOR_LABEL, transcript)
        if not hmac.compare_digest(expected_proof, proof.proof):
            return _refuse(Refusal.UNAUTHORIZED, self._identity, connector.protocol, connector.python)
        return Step(reply=_encode(Welcome()), peer=connector)


def checked_secret(secret: bytes) -> bytes:
    """``secret``, or ConfigurationError if it protects nothing."""
    if not secret:
        raise ConfigurationError("the ensemble's secret is empty: anybody could join. Use secrets.token_bytes(32).")
    return secret


def _proof(secret: bytes, label: str, transcript: _Transcript) -> bytes:
    # MessagePack writes each part with its length, so no two different tuples give the same bytes.
    return hmac.digest(secret, _encode((label, PROTOCOL_VERSION, transcript)), "sha256")


def _mismatch(own: Identity, peer: Identity) -> Refusal | None:
    """Why the two can not talk, however well they prove themselves."""
    if peer.protocol != own.protocol:
        return Refusal.PROTOCOL
    if peer.python != own.python:
        return Refusal.PYTHON
    if peer.ensemble != own.ensemble:
        return Refusal.ENSEMBLE
    return None


def _read(
    payload: bytes, awaited: type[Hello] | type[Challenge] | type[Proof] | type[Welcome] | None
) -> Hello | Challenge | Proof | Welcome | Step:
    """The awaited message, or the step that ends the handshake."""
    if awaited is None:
        return _malformed("a payload after the end of the handshake")
    try:
        message = _decode(payload)
    except (ValueError, RecursionError) as cause:  # msgspec's own errors are ValueErrors, as is broken UTF-8
        return _malformed(f"{len(payload)} bytes that are no message of the handshake ({cause})")
    if isinstance(message, Refused) and message.reason in _SENT_REFUSALS:
        error = _refusal_error(message.reason, message.protocol, message.python)
        return Step(error=error, refusal=message.reason)
    if not isinstance(message, awaited):
        return _malformed(f"{type(message).__name__} where {awaited.__name__} was due")
    return message


def _malformed(what: str) -> Step:
    return Step(error=ProtocolViolation(f"handshake: the peer sent {what}."), refusal=Refusal.MALFORMED)


def _refuse(reason: Refusal, own: Identity, protocol: int, python: str) -> Step:
    """End the handshake and tell the peer why."""
    refused = _encode(Refused(reason, own.protocol, own.python))
    return Step(reply=refused, error=_refusal_error(reason, protocol, python), refusal=reason)


def _refusal_error(reason: Refusal, protocol: int, python: str) -> ConcoordError:
    """The error for ``reason``, the same on both sides; ``protocol`` and ``python`` are the peer's."""
    if reason is Refusal.PROTOCOL:
        return ConfigurationError(
            f"the peer speaks protocol version {protocol}, this process {PROTOCOL_VERSION}: "
            "install the same version of concoord_ray everywhere."
        )
    if reason is Refusal.PYTHON:
        return ConfigurationError(
            f"the peer runs Python {python[:16]!r}, this process {PYTHON_MINOR}: "
            "run the same minor version of Python in every process of the ensemble."
        )
    if reason is Refusal.ENSEMBLE:
        return ConfigurationError(
            "the peer belongs to another ensemble: the address is out of date or was given for another name."
        )
    return Unauthorized(
        "the two sides do not have the same secret: give this process the secret with which the ensemble was started."
    )
