"""What a leader has taken of its clients' commands and not yet executed: the bound of all that lies behind it.

A command counts from when it is taken until the slot that it was proposed in is applied here: while it waits to be
proposed, while acceptors vote, and while user code holds up the executor. So what is queued anywhere behind the leader
is bounded with it. A call that is executed and waits (for a lock, say) does not count any more: however many there are,
the release that they wait for is taken.
"""

from __future__ import annotations

from collections import deque

from concoord_ray.config import Config
from concoord_ray.rsm.command import Entry

#: What an entry takes beside its command and acknowledgements.
_ENTRY_BYTES = 32
_ACK_BYTES = 18


def size_of(entry: Entry) -> int:
    """An upper bound of what an entry takes in a batch, unless a number is beyond all reason."""
    return len(entry.command) + _ENTRY_BYTES + _ACK_BYTES * len(entry.acks)


class Backlog:
    """Entries in order, those that wait to be proposed; and how many of those that were are not applied."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._waiting: deque[Entry] = deque()
        self._taken = 0
        self._taken_bytes = 0
        #: Of what is proposed and not applied: (slot, entries, bytes).
        self._proposed: deque[tuple[int, int, int]] = deque()

    def __bool__(self) -> bool:
        """Whether something waits to be proposed."""
        return bool(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether no more may be taken."""
        config = self._config
        return self._taken >= config.max_queued_commands or self._taken_bytes >= config.max_queued_bytes

    def take(self, entry: Entry) -> None:
        """One more. What the ensemble itself has to say is taken even if it is full."""
        self._waiting.append(entry)
        self._taken += 1
        self._taken_bytes += size_of(entry)

    def next_batch(self) -> tuple[Entry, ...]:
        """What goes into the next slot: as much as its bounds allow, and at least one entry."""
        config, waiting = self._config, self._waiting
        limit = min(config.max_batch_bytes, config.max_payload_bytes)
        entries: list[Entry] = []
        size = 0
        while waiting and len(entries) < config.max_batch_commands:
            size += size_of(waiting[0])
            if entries and size > limit:
                break
            entries.append(waiting.popleft())
        return tuple(entries)

    def proposed(self, slot: int, entries: tuple[Entry, ...]) -> None:
        """These went into a slot."""
        self._proposed.append((slot, len(entries), sum(map(size_of, entries))))

    def in_flight_bytes(self, decided_below: int) -> int:
        """How much is proposed in slots from this one on."""
        size = 0
        for slot, _, size_bytes in reversed(self._proposed):
            if slot < decided_below:
                break
            size += size_bytes
        return size

    def applied(self, below: int) -> None:
        """Every slot below this one is applied here."""
        while self._proposed and self._proposed[0][0] < below:
            _, entries, size = self._proposed.popleft()
            self._taken -= entries
            self._taken_bytes -= size

    def clear(self) -> None:
        """Forget everything: another leads."""
        self._waiting.clear()
        self._proposed.clear()
        self._taken = self._taken_bytes = 0
