"""How messages and records become bytes: MessagePack by msgspec, one decoder per family, made once."""

from __future__ import annotations

import msgspec

from concoord_ray.paxos.view import is_stop_sign
from concoord_ray.rsm.command import Batch, Command, Refusal

encode_message = msgspec.msgpack.Encoder().encode
encode_plain = encode_message
decode_plain = msgspec.msgpack.Decoder().decode
_decode_batch = msgspec.msgpack.Decoder(Batch).decode
decode_command = msgspec.msgpack.Decoder(Command).decode
decode_refusal = msgspec.msgpack.Decoder(Refusal).decode


def decode_batch(value: bytes) -> Batch:
    """A slot's value; of a stop-sign, a batch without entries that carries it."""
    return Batch(0, 0, (), value) if is_stop_sign(value) else _decode_batch(value)


#: What fills a gap in the log.
NOOP = encode_message(Batch(0, 0, ()))
