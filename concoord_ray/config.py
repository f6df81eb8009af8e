"""Every bound, window, interval and retry of an ensemble, in one place.

One ``Config`` is fixed when the ensemble starts and is the same for all of its members and clients.
"""

from __future__ import annotations

import math

import msgspec

from concoord_ray.errors import ConfigurationError

#: What the length in front of a frame can say.
LARGEST_FRAME_BYTES = (1 << 30) - 1

#: Of each role. Every one of them speaks to every other, so many fewer are of use.
MAX_MEMBERS = 99
#: What a message between members can say.
_MAX_INT = (1 << 63) - 1

#: Times that must not be shorter than so many of another, and what would happen.
_NOT_BELOW = (
    ("session_ttl_s", 4, "heartbeat_interval_s", "live clients would expire"),
    ("election_timeout_s", 2, "heartbeat_interval_s", "leaders that live would be deposed"),
    ("silent_after_s", 3, "report_interval_s", "members that live would count as silent"),
)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one ensemble. Units are the last word of each name."""

    # Size of the ensemble.
    acceptors: int = 3
    replicas: int = 3
    registries: int = 1
    placement: str = "SPREAD"
    #: The directory that acceptors and replicas keep their data in, on the disks of their nodes; empty for none.
    storage: str = ""

    # Failure detection. A closed connection is suspicion at once; these are for peers that fall silent.
    heartbeat_interval_s: float = 0.1
    election_timeout_s: float = 1.5
    #: Election timeouts are drawn from [election_timeout_s, 2 x election_timeout_s).
    retransmit_interval_s: float = 0.25
    tick_interval_s: float = 0.02
    #: The same for gateways and clients, which have less to be on time for.
    follower_tick_interval_s: float = 0.1
    #: How often a role that has started looks whether the first view is decided.
    view_poll_interval_s: float = 0.05
    #: How often a member reports itself to the registries, and looks for those that it is not connected to.
    report_interval_s: float = 0.5
    #: For how long a registry must have been silent to others, or a member to a registry, before another life at its
    #: index takes its place, though the connection is open: its process, or its machine, stands still.
    silent_after_s: float = 2.5
    #: How long a member that no registry names any more stays known. It is longer than any that lives takes to find a
    #: registry that has begun anew.
    forget_after_s: float = 60.0
    #: How long, at most, a member whose disk has failed waits before it tries again.
    disk_retry_s: float = 5.0

    # Sessions.
    session_ttl_s: float = 10.0
    #: Of how many ended sessions the ensemble remembers which of their calls were executed.
    remembered_sessions: int = 10_000
    #: How often in a row a process must look idle before the Ray tasks that it ran count as ended.
    idle_looks: int = 3
    #: How long a received reply may stay unacknowledged when no later call carries the acknowledgement.
    acknowledge_interval_s: float = 0.5
    #: A call that finds no leader for this long fails with QuorumLost.
    quorum_timeout_s: float = 15.0
    #: How long a call whose own timeout is over waits for its withdrawal to be confirmed, before it ends with
    #: OutcomeUnknown. Changes of leader are quicker.
    withdrawal_grace_s: float = 3.0

    # Windows: what may be under way at once.
    max_slots_in_flight: int = 16
    max_bytes_in_flight: int = 16 << 20
    max_batch_commands: int = 4096
    max_batch_bytes: int = 4 << 20
    #: What a leader has taken and not yet executed: commands and reads, each; more is sent again later.
    max_queued_commands: int = 100_000
    max_queued_bytes: int = 256 << 20
    #: How much of the results of reads a leader makes at a time, as far as it can know.
    read_results_bytes: int = 32 << 20
    catch_up_page_bytes: int = 4 << 20

    # The log: dropped in steps, once every replica has executed it.
    truncate_slots: int = 4096
    truncate_log_bytes: int = 4 << 20
    #: Commands are held back while the log, which some replica still needs, is longer than this.
    max_log_bytes: int = 256 << 20
    #: How much of a snapshot one message carries.
    snapshot_chunk_bytes: int = 1 << 20
    #: With storage: by how much the log has to grow before the next snapshot is written.
    snapshot_log_bytes: int = 4 << 20
    #: Or by how many slots: small ones take little space, but after a restart each is proposed and executed anew.
    snapshot_slots: int = 16384
    #: How long to wait after a snapshot has failed: an object's state could not be pickled.
    snapshot_retry_s: float = 5.0
    #: How long a snapshot that nobody pulls is kept in memory.
    snapshot_keep_s: float = 10.0
    #: For how long a member must have been gone before another life of it takes its place in the view.
    replace_after_s: float = 0.5

    # What there may be in the replicated state; the log itself refuses more, with Overloaded.
    max_sessions: int = 50_000
    max_objects: int = 1_000_000
    #: Calls that wait. One waiting call takes some 2 kB of every replica.
    max_parked_calls: int = 200_000
    #: Results that are kept since their callers have not said that they have them: of one session, and of all. Each
    #: counts as 200 bytes more than it has.
    max_unacknowledged_bytes: int = 256 << 20
    max_kept_bytes: int = 1 << 30

    #: Calls of one process that have not ended: of those that may wait for long, and of all others, each. Of the latter
    #: so many bytes of arguments.
    max_calls_per_process: int = 100_000
    max_bytes_per_process: int = 256 << 20
    #: The same for one gateway, and all processes of its node.
    max_calls_per_gateway: int = 200_000
    max_bytes_per_gateway: int = 1 << 30
    #: Client processes of its node whose death a gateway notices at once.
    max_watched_processes: int = 10_000
    #: How long a gateway holds a call back for one that was submitted before it and has not come.
    gateway_order_wait_s: float = 0.5
    #: Of how many sessions a gateway remembers where they are in line.
    gateway_sequences: int = 10_000
    #: Of how many calls a gateway remembers that they came: Ray runs those again whose answers were lost on their way.
    gateway_remembered_calls: int = 50_000
    #: How long, at most, the end of an ensemble waits until its gateways have told everybody who waits in it.
    leave_timeout_s: float = 10.0

    # Divergence: replicas compare what they answered, and are, every so many slots; a part of what is large.
    checkpoint_interval_slots: int = 1000
    checkpoint_objects: int = 64
    checkpoint_nodes_per_object: int = 500

    # Executing. What runs longer than ``quick_call_s`` runs beside the replica's event loop, see ``roles.lane``.
    quick_call_s: float = 0.0002
    slow_call_s: float = 0.02
    inline_after_runs: int = 16
    #: From when on ``status`` names what a replica is executing.
    executing_report_s: float = 1.0
    #: After how many lives in a row that died in one slot a replica does not execute it, see ``roles.mark``; it leaves,
    #: and tries again after so long. Meanwhile it has the state before that slot, for ``concoord.recover``.
    deadly_after_deaths: int = 3
    deadly_retry_s: float = 30.0

    # Frames and connections.
    max_frame_bytes: int = 64 << 20
    max_send_buffer_bytes: int = 256 << 20
    #: Who can wait with what it has to send waits while more than this waits in the connection.
    send_window_bytes: int = 16 << 20
    max_unauthenticated_connections: int = 128
    #: Clients and gateways that one member serves; members of the ensemble are always let in.
    max_client_connections: int = 20_000
    handshake_timeout_s: float = 5.0
    #: The largest frame that a peer may send before it has proved that it knows the secret.
    max_handshake_frame_bytes: int = 4 << 10
    reconnect_min_s: float = 0.02
    reconnect_max_s: float = 1.0
    #: How long to wait before dialing again where we were refused for good (wrong secret, ensemble or version).
    refused_retry_s: float = 10.0
    #: A peer whose kernel acknowledges nothing (node gone, network cut) for this long is given up.
    peer_timeout_s: float = 10.0
    #: How long a closing connection may take to send what is queued before it is cut.
    close_timeout_s: float = 2.0

    @property
    def max_payload_bytes(self) -> int:
        """The largest command or result: a 64th of a frame is left for what carries it (batch, proposal, reply)."""
        return self.max_frame_bytes - (self.max_frame_bytes >> 6)

    def __post_init__(self) -> None:
        for name in ("acceptors", "replicas", "registries"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name}={getattr(self, name)}: an ensemble needs at least one.")
            if getattr(self, name) > MAX_MEMBERS:
                raise ConfigurationError(f"{name}={getattr(self, name)}: an ensemble has at most {MAX_MEMBERS}.")
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, float) and not 0 < value < math.inf:
                raise ConfigurationError(f"{name}={value!r}: give a positive number of seconds.")
            if isinstance(value, int) and value < 1:
                raise ConfigurationError(f"{name}={value!r}: nothing would get through; give a positive number.")
            if isinstance(value, int) and value > _MAX_INT:
                raise ConfigurationError(f"{name}={value!r}: give a number up to {_MAX_INT}.")
        if self.max_frame_bytes > LARGEST_FRAME_BYTES:
            raise ConfigurationError(
                f"max_frame_bytes={self.max_frame_bytes}: a frame has at most {LARGEST_FRAME_BYTES} bytes."
            )
        if self.placement not in ("SPREAD", "STRICT_SPREAD", "PACK", "STRICT_PACK"):
            raise ConfigurationError(
                f"placement={self.placement!r}: use SPREAD, STRICT_SPREAD, PACK or STRICT_PACK, as Ray names them."
            )
        for name, times, other, otherwise in _NOT_BELOW:
            least_s = times * getattr(self, other)
            if getattr(self, name) < least_s:
                raise ConfigurationError(
                    f"{name}={getattr(self, name)}: must be at least {times} times {other} ({least_s} s), or "
                    f"{otherwise}."
                )
