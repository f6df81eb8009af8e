"""A modelled disk: what was synced survives a crash, of the rest a seeded prefix.

Every step of the disk is numbered, and a crash can be asked for *instead of* the k-th. Running a scenario once counts
its steps; running it again for every k crashes it before each append, before each sync, inside it, and after it but
before anyone is told: the last is the crash between persist and send.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from tests.sim.clock import to_ns
from tests.sim.host import Crashed, Host


class StoreStep(Enum):
    APPEND = "append"
    REPLACE = "replace"
    SYNC = "sync"
    SYNCED = "synced"
    REPORT = "report"


class Survival(Enum):
    """What a crash leaves of the records that were not synced."""

    NOTHING = "nothing"
    EVERYTHING = "everything"
    SEEDED_PREFIX = "seeded prefix"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreProfile:
    sync_min_s: float = 0.0002
    sync_max_s: float = 0.002
    stall_probability: float = 0.0
    stall_max_s: float = 1.0
    survival: Survival = Survival.SEEDED_PREFIX
    #: That the first lost record leaves a part of itself behind.
    torn_probability: float = 0.0
    sync_failure_probability: float = 0.0


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a restarted process finds. ``torn`` is the broken end of the log, which reading has cut off."""

    records: tuple[bytes, ...]
    torn: bytes | None


@dataclass(frozen=True, slots=True)
class _Write:
    records: tuple[bytes, ...]
    replaces: bool


class Store:
    """The disk of one host: an append-only log that can be replaced as a whole. It outlives the host's crashes."""

    def __init__(self, host: Host, profile: StoreProfile | None = None) -> None:
        self._host = host
        self._profile = profile or StoreProfile()
        self._rng = host.scheduler.stream(f"store/{host.name}")
        self._durable: list[bytes] = []
        self._unsynced: list[_Write] = []
        self._torn: bytes | None = None
        self._last_sync_ns = 0
        self._written = 0
        self._settled = 0
        self._fsync_failed = False
        self.steps = 0
        self.crash_at_step: int | None = None
        host.on_crash(self._crashed)

    @property
    def durable(self) -> tuple[bytes, ...]:
        """What survives a crash in any case."""
        return tuple(self._durable)

    def durable_since(self, index: int) -> list[bytes]:
        """What survives a crash in any case, from the ``index``-th record on."""
        return self._durable[index:]

    @property
    def records(self) -> tuple[bytes, ...]:
        """What the running process has written, synced or not."""
        log = list(self._durable)
        _apply(log, self._unsynced)
        return tuple(log)

    def append(self, record: bytes) -> None:
        """Write one record; durable once a sync that began later has reported."""
        self._begin(StoreStep.APPEND, f"{len(record)} B")
        self._write(_Write((bytes(record),), replaces=False))

    def replace(self, records: Sequence[bytes]) -> None:
        """Write a whole new log in place of the old one (a compaction): after a crash it is there entirely or not."""
        self._begin(StoreStep.REPLACE, f"{len(records)} records")
        self._write(_Write(tuple(map(bytes, records)), replaces=True))

    def sync(self, done: Callable[[OSError | None], None]) -> None:
        """Make everything written so far durable, then call ``done(None)`` on the host, or ``done(error)`` if fsync
        failed. After a failure nothing becomes durable any more, though a later sync may well report success: that is
        how Linux treats the pages of a failed fsync. Syncs end in the order in which they began.
        """
        self._begin(StoreStep.SYNC, f"{len(self._unsynced)} writes")
        profile, now_ns = self._profile, self._host.scheduler.now_ns
        delay_s = self._rng.uniform(profile.sync_min_s, profile.sync_max_s)
        if self._rng.random() < profile.stall_probability:
            delay_s += self._rng.uniform(0, profile.stall_max_s)
        fails = self._rng.random() < profile.sync_failure_probability
        self._last_sync_ns = max(self._last_sync_ns, now_ns + to_ns(delay_s))
        life, written = self._host.life, self._written
        self._host.scheduler.at_ns(self._last_sync_ns, lambda: self._synced(life, written, fails, done))

    def recover(self) -> Recovered:
        """Read the log after a crash, and cut off its torn end."""
        recovered = Recovered(tuple(self._durable), self._torn)
        self._torn = None
        return recovered

    def wipe(self) -> None:
        """Lose the disk."""
        self._durable.clear()
        self._unsynced.clear()
        self._settled = self._written
        self._torn = None
        self._host.trace.log(self._host.name, "store wiped")

    def _write(self, write: _Write) -> None:
        self._written += 1
        self._unsynced.append(write)

    def _begin(self, step: StoreStep, detail: str) -> None:
        if self._crashes_instead_of(step, detail):
            raise Crashed

    def _crashes_instead_of(self, step: StoreStep, detail: str) -> bool:
        self.steps += 1
        if self.steps == self.crash_at_step:
            self._host.trace.log(self._host.name, f"store step {self.steps}: crash instead of {step.value}")
            self._host.crash()
            return True
        self._host.trace.log(self._host.name, f"store step {self.steps}: {step.value} {detail}".rstrip())
        return False

    def _synced(self, life: int, written: int, fails: bool, done: Callable[[OSError | None], None]) -> None:
        if self._host.life != life or self._crashes_instead_of(StoreStep.SYNCED, "failed" if fails else ""):
            return
        if fails:
            self._fsync_failed = True
            self._host.dispatch(lambda: self._report(OSError("simulated fsync failure"), done))
            return
        if not self._fsync_failed:
            pending = written - self._settled
            _apply(self._durable, self._unsynced[:pending])
            del self._unsynced[:pending]
            self._settled = written
        self._host.dispatch(lambda: self._report(None, done))

    def _report(self, error: OSError | None, done: Callable[[OSError | None], None]) -> None:
        self._begin(StoreStep.REPORT, "")
        done(error)

    def _crashed(self) -> None:
        unsynced, self._unsynced = self._unsynced, []
        self._settled, self._fsync_failed = self._written, False
        if not unsynced:
            return
        survivors = {
            Survival.NOTHING: 0,
            Survival.EVERYTHING: len(unsynced),
            Survival.SEEDED_PREFIX: self._rng.randint(0, len(unsynced)),
        }[self._profile.survival]
        _apply(self._durable, unsynced[:survivors])
        lost = unsynced[survivors:]
        if lost and not lost[0].replaces and self._rng.random() < self._profile.torn_probability:
            record = lost[0].records[0]
            self._torn = record[: self._rng.randrange(len(record))] if record else b""
        torn = "" if self._torn is None else f", {len(self._torn)} B torn"
        self._host.trace.log(self._host.name, f"store kept {survivors} of {len(unsynced)} unsynced writes{torn}")


def _apply(log: list[bytes], writes: Sequence[_Write]) -> None:
    for write in writes:
        if write.replaces:
            log.clear()
        log.extend(write.records)
