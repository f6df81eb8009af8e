"""The transport: proven peers, framed bytes, bounded buffers. This text is its manual.

On the wire
    A TCP connection, inside TLS where Ray's ``RAY_USE_TLS`` asks for it (``tls``), carries frames in both directions:
    a 4-byte big-endian length, then that many bytes, at least one (``frame``). First come the frames of the
    handshake, then frames whose contents are the business of the layers above. Nothing in this package decodes or
    unpickles those.

Handshake (``handshake``; run by ``greeting``)
    1. connector: ``Hello`` with its identity (ensemble, role, index, incarnation, Python minor version, protocol
       version) and a nonce;
    2. listener: ``Challenge`` with its own identity and nonce, and its proof; or ``Refused``;
    3. connector: checks versions, ensemble, proof and that this is the member it wanted; ``Proof``; or ``Refused``;
    4. listener: checks the proof; ``Welcome``; or ``Refused``.

    A proof is an HMAC-SHA256 under the ensemble's secret over a label of the direction, the protocol version, both
    identities, both nonces and the TLS connection. The secret itself is never sent. After step 4 either side sends
    frames.

Refusals
    Versions and ensemble that differ become ConfigurationError, a secret that differs Unauthorized, on both sides. A
    listener counts refusals by reason (``Listener.stats``) and logs them at most once a second. A dialer reports them
    through ``failed`` and tries again every ``refused_retry_s``.

Connections (``connection``)
    A ``Handler`` gets ``opened``, any number of ``received`` and one ``closed`` per connection. ``Connection.send``
    queues; all that was sent in one turn of the event loop leaves in one write. A ``Listener`` accepts, a ``Dialer``
    keeps one connection to one target alive and follows it when it moves.

Limits, all in ``config.Config``
    ======================================  ==========================================================================
    max_handshake_frame_bytes               a frame of a stranger; larger: closed
    handshake_timeout_s                     TCP connect, TLS and handshake together; longer: closed
    max_unauthenticated_connections         strangers per listener at once; more: closed
    max_frame_bytes                         a frame; larger: FrameTooLarge for the sender, ProtocolViolation if received
    max_send_buffer_bytes                   what waits for a peer that does not read; more: the connection is cut
    reconnect_min_s, reconnect_max_s        delays between dials
    refused_retry_s                         the delay after a refusal that will not go away by itself
    peer_timeout_s                          silence of the peer's kernel before the connection counts as dead
    close_timeout_s                         time for the last bytes of a closing connection
    ======================================  ==========================================================================

What it does not do: deliver for certain. Frames arrive in order and without gaps while a connection lasts; what was
under way when it ended may or may not have arrived. Retries belong to the layers above.
"""
