"""What one seed simulates: how many members, which network, disks and settings, and how stormy it is.

All intervals are shorter than in production by one factor, and so are the faults: what matters to the protocol is their
ratio, and a second of storm then costs little.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import msgspec

from concoord_ray.config import Config
from tests.sim.faults import FaultKind, FaultProfile
from tests.sim.network import Flavour, NetworkProfile
from tests.sim.store import StoreProfile

#: In a plan of faults: whoever leads when the fault strikes.
LEADER = "the leader"


class Kind(Enum):
    """How much of the system is simulated."""

    #: Acceptors and replicas that agree on opaque values.
    PROTOCOL = "protocol"
    #: As PROTOCOL, with the production storage on real files, which crashes tear and time spoils.
    STORAGE = "storage"
    #: As PROTOCOL, with values that take longer than an election timeout to arrive.
    THIN = "thin"
    #: Everything from the clients' sessions to the executors and the disks.
    FULL = "full"
    #: As FULL, with clients that use the whole threading family.
    THREADING = "threading"

    @property
    def has_clients(self) -> bool:
        return self in (Kind.FULL, Kind.THREADING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything about a run that is not the plan of its faults."""

    seed: int
    kind: Kind
    config: Config
    network: NetworkProfile
    store: StoreProfile
    faults: FaultProfile
    clients: int
    #: Whether half of the clients' calls go through a gateway, which may die too.
    has_gateway: bool
    threads: int
    think_max_s: float
    #: How many of the values are so large that they take a while (where there are no clients).
    large_probability: float = 0.0
    #: How many more acceptors and replicas there are than the first view names; whoever resizes may call on them.
    spares: int = 0
    #: How long the executor takes for what it is handed, mostly; and how often, and up to how long, it takes longer.
    execute_max_s: float = 0.002
    slow_execute_probability: float = 0.0
    slow_execute_max_s: float = 0.5
    inline_probability: float = 0.0
    #: How many election timeouts after the storm a leader leads.
    elections_until_leader: int = 10
    #: How long after the storm every call has ended, and everything of dead clients is free.
    patience_s: float = 20.0

    @property
    def durable(self) -> bool:
        """Whether acceptors keep their records, and replicas their snapshots, on disk."""
        return bool(self.config.storage)

    @property
    def partners(self) -> tuple[tuple[str, ...], ...]:
        """Who is cut off together more often than chance has it: the leader with a client, or with an acceptor."""
        with_whom = [f"client{index}" for index in range(self.clients)] or [
            f"acceptor{index}" for index in range(self.config.acceptors)
        ]
        if self.kind is Kind.STORAGE:  # Replicas' disks are not what it is about.
            return tuple((name, LEADER) for name in with_whom)
        return tuple((LEADER, name) for name in with_whom)

    @property
    def is_calm(self) -> bool:
        """No fault ever strikes: nothing may fail."""
        return not any(self.faults.weight(kind) for kind in FaultKind)


_NO_FAULTS: dict[str, Any] = {
    "partition": 0.0, "mute": 0.0, "deafen": 0.0, "clog": 0.0, "pause": 0.0, "crash": 0.0, "wipe": 0.0,
    "damage": 0.0, "blackout": 0.0, "clock_jump": 0.0, "wall_step": 0.0, "clock_drift": 0.0, "resize": 0.0,
}  # fmt: skip


def draw(seed: int, kind: Kind) -> Scenario:
    """The scenario of a seed."""
    rng = random.Random(f"{seed}/scenario/{kind.value}")
    if kind is Kind.STORAGE:
        return _storage(seed, rng)
    if kind is Kind.THIN:
        return _thin(seed, rng)
    scenario = _full(seed, kind, rng) if kind.has_clients else _protocol(seed, rng)
    return _with_long_log(scenario) if kind in (Kind.FULL, Kind.PROTOCOL) else scenario


def _with_long_log(scenario: Scenario) -> Scenario:
    """In one of six seeds whoever is away for long is left out of the view, or commands are held back."""
    rng = random.Random(f"{scenario.seed}/long log/{scenario.kind.value}")
    if rng.random() >= 1 / 6:
        return scenario
    max_log_bytes = rng.choice((2000, 6000) if scenario.kind.has_clients else (500, 1500))
    return replace(scenario, config=msgspec.structs.replace(scenario.config, max_log_bytes=max_log_bytes))


def _full(seed: int, kind: Kind, rng: random.Random) -> Scenario:
    durable = rng.random() < 0.5
    calm = rng.random() < 0.04
    spares = 0 if calm else rng.choice((0, 0, 1))
    return Scenario(
        seed=seed,
        kind=kind,
        config=_config(rng, durable),
        network=NetworkProfile() if calm else _network(rng),
        store=StoreProfile() if calm else _store(rng),
        faults=FaultProfile(
            storm_s=rng.uniform(2.0, 4.0),
            mean_interval_s=rng.choice((0.2, 0.35, 0.7)),
            duration_min_s=0.02,
            duration_max_s=1.5,
            max_jump_s=6.0,
            **(_NO_FAULTS if calm else {**_weights(rng, durable), "resize": 0.5 * spares}),
        ),
        clients=rng.choice((2, 2, 3)),
        has_gateway=rng.random() < 0.5,
        threads=rng.choice((2, 3)),
        think_max_s=rng.choice((0.1, 0.3, 0.6)),
        slow_execute_probability=rng.choice((0.0, 0.0, 0.02, 0.1)),
        inline_probability=rng.choice((0.0, 0.5)),
        spares=spares,
    )


def _protocol(seed: int, rng: random.Random) -> Scenario:
    kind = rng.random()
    if kind < 0.4:
        return _duel(seed, rng)
    if kind < 0.5:
        return _rebuilding(seed, rng)
    durable = rng.random() < 0.5
    spares = rng.choice((0, 0, 1, 2))
    return Scenario(
        seed=seed,
        kind=Kind.PROTOCOL,
        config=_config(rng, durable),
        network=_network(rng),
        store=_store(rng),
        faults=FaultProfile(
            storm_s=rng.uniform(2.0, 6.0),
            mean_interval_s=rng.choice((0.1, 0.2, 0.4)),
            duration_min_s=0.02,
            duration_max_s=1.5,
            max_jump_s=3.0,
            **{**_weights(rng, durable), "resize": 0.3 * spares},
        ),
        clients=0,
        has_gateway=False,
        threads=0,
        think_max_s=rng.choice((0.02, 0.05, 0.1)),
        spares=spares,
    )


def _duel(seed: int, rng: random.Random) -> Scenario:
    """Leaders change faster than many a message arrives: much is of a ballot that is long over, often of the same
    replica's.
    """
    return Scenario(
        seed=seed,
        kind=Kind.PROTOCOL,
        config=msgspec.structs.replace(
            _config(rng, durable=rng.random() < 0.3),
            replicas=2,
            heartbeat_interval_s=0.05,
            election_timeout_s=0.1,
            retransmit_interval_s=0.3,
            tick_interval_s=0.02,
        ),
        network=NetworkProfile(
            flavour=Flavour.DATAGRAM,
            delay_max_s=0.02,
            slow_probability=rng.choice((0.1, 0.2, 0.4)),
            slow_max_s=rng.choice((0.3, 0.8)),
            loss_probability=rng.choice((0.0, 0.05)),
            duplicate_probability=rng.choice((0.0, 0.2)),
        ),
        store=_store(rng),
        faults=FaultProfile(
            storm_s=rng.uniform(4.0, 8.0),
            mean_interval_s=0.1,
            duration_min_s=0.05,
            duration_max_s=0.4,
            **{
                **_NO_FAULTS,
                "pause": 1.0,
                "crash": 0.2,
                "clog": 0.3,
                "mute": 1.0,
                "deafen": 1.0,
                "partition": 1.0,
            },
        ),
        clients=0,
        has_gateway=False,
        threads=0,
        think_max_s=rng.choice((0.02, 0.05)),
    )


def _rebuilding(seed: int, rng: random.Random) -> Scenario:
    """On disk: members come, go and lose their disks, and time and again everybody restarts from what there is."""
    return Scenario(
        seed=seed,
        kind=Kind.PROTOCOL,
        config=msgspec.structs.replace(
            _config(rng, durable=True),
            replicas=rng.choice((2, 3)),
            snapshot_log_bytes=rng.choice((100, 1000)),
            truncate_slots=rng.choice((3, 20)),
            replace_after_s=0.1,
        ),
        network=NetworkProfile(flavour=Flavour.CONNECTION, detect_min_s=0.02, detect_max_s=0.2),
        store=StoreProfile(),
        faults=FaultProfile(
            storm_s=rng.uniform(3.0, 6.0),
            mean_interval_s=0.15,
            duration_min_s=0.02,
            duration_max_s=0.5,
            **{
                **_NO_FAULTS,
                "crash": 1.0,
                "wipe": 0.7,
                "damage": 0.3,
                "blackout": 1.0,
                "resize": 1.5,
                "partition": 0.3,
            },
        ),
        clients=0,
        has_gateway=False,
        threads=0,
        think_max_s=rng.choice((0.02, 0.05)),
        spares=2,
    )


def _thin(seed: int, rng: random.Random) -> Scenario:
    """The network is slow, and values are large: nobody may be taken for dead for that, and nothing be sent twice."""
    return Scenario(
        seed=seed,
        kind=Kind.THIN,
        config=msgspec.structs.replace(
            _config(rng, durable=False), max_slots_in_flight=rng.choice((1, 2, 3)), send_window_bytes=1 << 20
        ),
        network=NetworkProfile(
            flavour=Flavour.CONNECTION,
            detect_min_s=0.02,
            detect_max_s=0.2,
            bytes_per_s=rng.choice((100e3, 200e3, 400e3)),
        ),
        store=StoreProfile(),
        faults=FaultProfile(
            storm_s=rng.uniform(5.0, 15.0),
            mean_interval_s=rng.choice((1.0, 3.0)),
            duration_min_s=0.02,
            duration_max_s=0.5,
            **{**_NO_FAULTS, "crash": 1.0, "pause": 0.5, "partition": 0.3},
        ),
        clients=0,
        has_gateway=False,
        threads=0,
        think_max_s=1.0,
        large_probability=0.5,
        elections_until_leader=60,  # What phase 1 has to bring takes its time.
        patience_s=60.0,
    )


def _storage(seed: int, rng: random.Random) -> Scenario:
    """Disks are what fails: acceptors crash in the middle of commits, and find their files spoilt."""
    spares = rng.choice((0, 0, 1))
    return Scenario(
        seed=seed,
        kind=Kind.STORAGE,
        config=msgspec.structs.replace(
            _config(rng, durable=True),
            acceptors=rng.choice((3, 5)),
            truncate_slots=rng.choice((5, 50, 10_000)),
            replace_after_s=0.1,
        ),
        network=_network(rng),
        store=StoreProfile(
            sync_max_s=rng.choice((0.002, 0.02)),
            stall_probability=rng.choice((0.0, 0.02)),
            stall_max_s=0.2,
            sync_failure_probability=rng.choice((0.0, 0.01, 0.03)),
        ),
        faults=FaultProfile(
            storm_s=rng.uniform(1.0, 3.0),
            mean_interval_s=rng.choice((0.05, 0.1, 0.2)),
            duration_min_s=0.02,
            duration_max_s=0.4,
            **{**_NO_FAULTS, "crash": 2.0, "damage": 2.0, "blackout": rng.choice((0.0, 0.5)), "pause": 0.5,
               "partition": rng.choice((0.0, 0.5)), "wipe": 0.1, "resize": 0.3 * spares},
        ),
        clients=0,
        has_gateway=False,
        threads=0,
        think_max_s=rng.choice((0.005, 0.02, 0.05)),
        spares=spares,
    )  # fmt: skip


def _config(rng: random.Random, durable: bool) -> Config:
    return Config(
        storage="on disk" if durable else "",
        snapshot_log_bytes=rng.choice((100, 1000, 10_000)),
        acceptors=rng.choice((3, 3, 3, 5)),
        replicas=rng.choice((2, 3, 3)),
        heartbeat_interval_s=0.1,
        election_timeout_s=0.5,
        retransmit_interval_s=0.15,
        tick_interval_s=0.04,
        session_ttl_s=rng.choice((0.5, 1.0, 2.0)),
        acknowledge_interval_s=0.3,
        quorum_timeout_s=rng.choice((3.0, 8.0)),
        max_slots_in_flight=rng.choice((1, 3, 16)),
        max_batch_commands=rng.choice((1, 3, 4096)),
        max_queued_commands=rng.choice((3, 1000, 1000)),
        catch_up_page_bytes=rng.choice((400, 2000, 1 << 20)),
        truncate_slots=rng.choice((5, 50, 10_000)),
        replace_after_s=rng.choice((0.1, 0.5)),
        checkpoint_interval_slots=rng.choice((7, 30)),
    )


def _network(rng: random.Random) -> NetworkProfile:
    if rng.random() < 0.5:
        return NetworkProfile(
            flavour=Flavour.CONNECTION,
            slow_probability=rng.choice((0.0, 0.01)),
            detect_min_s=0.02,
            detect_max_s=rng.choice((0.2, 1.0)),
        )
    return NetworkProfile(
        flavour=Flavour.DATAGRAM,
        client_flavour=Flavour.CONNECTION,
        slow_probability=rng.choice((0.0, 0.02, 0.1)),
        slow_max_s=rng.choice((0.1, 1.0)),
        loss_probability=rng.choice((0.0, 0.02, 0.15)),
        duplicate_probability=rng.choice((0.0, 0.05)),
        detect_min_s=0.1,
        detect_max_s=1.0,
    )


def _store(rng: random.Random) -> StoreProfile:
    return StoreProfile(
        stall_probability=rng.choice((0.0, 0.01)),
        stall_max_s=0.5,
        torn_probability=0.3,
        sync_failure_probability=rng.choice((0.0, 0.0, 0.01)),
    )


def _weights(rng: random.Random, durable: bool) -> dict[str, Any]:
    return {
        "partition": rng.choice((0.0, 1.0)),
        "mute": rng.choice((0.0, 0.5)),
        "deafen": rng.choice((0.0, 0.5)),
        "clog": rng.choice((0.0, 0.5)),
        "pause": rng.choice((0.0, 1.0)),
        "crash": rng.choice((0.5, 2.0)),
        "wipe": 0.2 if durable else 0.0,
        "damage": 0.2 if durable else 0.0,
        "blackout": rng.choice((0.0, 0.3, 1.0)) if durable else 0.0,
        "clock_jump": rng.choice((0.0, 0.0, 0.3)),
        "wall_step": rng.choice((0.0, 0.3)),
        "clock_drift": rng.choice((0.0, 0.3)),
    }
